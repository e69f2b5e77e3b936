"""What is prepared, asked and answered: what the parts of the tab share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_restore as nr
from napari_restore import api
from napari_restore.plugin.tasks._task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_restore.explain.attention import Attention, AttentionSession, Query, QueryMaps
    from napari_restore.models import AttentionSite
    from napari_restore.plugin.state._request import RunRequest


@dataclass(frozen=True)
class PreparationRequest:
    """Image and model of the panel, and how the one is read and where the other runs."""

    run: RunRequest
    """Its area is not used."""

    def session(self, **callbacks: Any) -> AttentionSession:
        """Load the model and plan; not in the GUI thread. `callbacks` are emit and stop."""
        run = self.run
        return api.attention_session(run.image, run.load(), **self._options(), **callbacks)

    def attend(self, query: Query, layers: Sequence[str]) -> Attention:
        """Return maps with their record, as the command makes them; not in the GUI thread."""
        run = self.run
        return nr.attend(
            run.image,
            run.load(),
            [query],
            layers=list(layers),
            progress=False,
            **self._options(),
        )

    def save(self, query: Query, layers: Sequence[str], path: Path, **options: Any) -> None:
        """Write maps or numbers, by the suffix; not in the GUI thread."""
        self.attend(query, layers).save(path, overwrite=True, **options)

    def draw(self, query: Query, layers: Sequence[str], path: Path) -> None:
        """Draw a figure; not in the GUI thread."""
        api.draw_attention(self.attend(query, layers), path, overwrite=True)

    def _options(self) -> dict[str, Any]:
        return {**vars(self.run.options.reading), **vars(self.run.options.machine)}


class PrepareTask(Task):
    """Prepares an image on another thread; sends events, and `ended` gives the `AttentionSession`."""

    def __init__(self, request: PreparationRequest) -> None:
        super().__init__(name="attention", failure="Preparing failed")
        self.request = request

    def work(self) -> AttentionSession:
        """Prepare the session."""
        from napari.layers import Points

        # napari imports pandas, seconds on a busy machine, when the first of them is made.
        Points(np.zeros((1, 2)))
        session = self.request.session(emit=self.send, stop=self.stop)
        session.prepare()
        return session


@dataclass(frozen=True)
class KeptAnswer:
    """An answer that is kept, to be compared with others."""

    query: QueryMaps
    title: str
    """Of its network."""
    image: str
    """`unique_id` of the layer that was asked about."""

    def missing(self, site: str, heads: Sequence[str]) -> str:
        """Return why it has not these heads of a layer of the network, "" where it has."""
        maps = self.query.maps.get(site)
        if maps is None:
            return f"The reference has no layer {site}, or it was not computed yet."
        absent = [head for head in heads if head not in maps.site.heads]
        return f"Its layer {site} has no head {', '.join(absent)}." if absent else ""


@dataclass
class PreparedAttention:
    """The prepared network and image, and the last answer."""

    session: AttentionSession | None = None
    request: PreparationRequest | None = None
    """What `session` was prepared from."""
    query: QueryMaps | None = None
    """The last answer, of all layers that are computed."""
    reference: KeptAnswer | None = None
    """An earlier answer, perhaps of another network."""

    @property
    def kept(self) -> QueryMaps | None:
        """The maps of the reference."""
        return None if self.reference is None else self.reference.query

    def forget(self) -> None:
        """Close the session and forget the answer; the reference stays."""
        session, self.session = self.session, None
        self.request = self.query = None
        if session is not None:
            session.source.close()

    def site(self, name: str) -> AttentionSite:
        """Return a layer of the network by its name."""
        assert self.session is not None
        return next(each for each in self.session.sites if each.name == name)

    def title(self, name: str) -> str:
        """Return the title of a layer of the network by its name."""
        return self.site(name).title
