"""The preparation of an image for questions about a model's attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Event
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.threads._stoppable_task import StoppableTask, messages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_restore.explain.attention import Attention, AttentionSession, Query
    from napari_restore.plugin._request import Request


@dataclass(frozen=True)
class AttentionRequest:
    """Image and model of the panel, and how the one is read and where the other runs."""

    run: Request
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


class PrepareTask(StoppableTask):
    """Prepares an image on other threads; `ended` gives the `AttentionSession`."""

    def __init__(self, request: AttentionRequest) -> None:
        super().__init__("attention")
        self.request = request

    def work(self) -> Iterator[Any]:
        """Yield events, and at last the session or the error."""
        from napari.layers import Points

        def compute(send: Callable[[Any], None]) -> None:
            # napari imports pandas, seconds on a busy machine, when the first of them is made.
            Points(np.zeros((1, 2)))
            session = self.request.session(emit=send, stop=self._stop)
            session.prepare()
            send(session)

        return messages_of(compute, self._stop, "attention", "Preparing failed")

    def receive(self, item: Any) -> None:
        """Report an event; keep the session or the error for the end."""
        if isinstance(item, Event):
            self.happened.emit(item)
        elif isinstance(item, Cancelled):
            pass
        elif isinstance(item, RestoreError):
            self._outcome = ("failed", item)
        else:
            self._outcome = ("done", item)
