"""What is prepared, asked and answered: what the parts of the tab share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_restore.api import AttentionElsewhere
from napari_restore.plugin.tasks.task import Task

if TYPE_CHECKING:
    from napari_restore.engine import Worker
    from napari_restore.explain.attention.head_maps import QueryMaps
    from napari_restore.models import AttentionSite
    from napari_restore.plugin.state.request import RunRequest


class PrepareTask(Task):
    """Has an image prepared in `worker`; sends events, and `ended` gives the `AttentionElsewhere`."""

    def __init__(self, request: RunRequest, worker: Worker) -> None:
        """Image and model are those of `request`, whose area is not used."""
        super().__init__(name="attention", failure="Preparing failed")
        self.request, self._worker = request, worker

    def work(self) -> AttentionElsewhere:
        """Prepare the session."""
        from napari.layers import Points

        # napari imports pandas, seconds on a busy machine, when the first of them is made.
        Points(np.zeros((1, 2)))
        session = AttentionElsewhere(self._worker, self.request.subject)
        session.prepare(self.send, self.stop)
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

    session: AttentionElsewhere | None = None
    request: RunRequest | None = None
    """What `session` was prepared from."""
    query: QueryMaps | None = None
    """The last answer, of all layers that are computed."""
    attended_by: bool = False
    """Whether it is asked what attends to the query, not what the query attends to."""
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
            session.close()

    def site(self, name: str) -> AttentionSite:
        """Return a layer of the network by its name."""
        assert self.session is not None
        return next(each for each in self.session.sites if each.name == name)

    def title(self, name: str) -> str:
        """Return the title of a layer of the network by its name."""
        return self.site(name).title
