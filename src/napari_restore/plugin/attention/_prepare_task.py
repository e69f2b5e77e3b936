"""The preparation of an image for questions about a model's attention."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Event
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.threads._background_task import BackgroundTask

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


class PrepareTask(BackgroundTask):
    """Prepares an image on other threads; `ended` gives the session."""

    happened = Signal(object)
    """Every event of the engine."""
    ended = Signal(str, object)
    """Once: "done", "cancelled" or "failed", with the `AttentionSession`, None or the error."""

    def __init__(self, request: AttentionRequest) -> None:
        super().__init__("attention")
        self.request = request
        self._stop = threading.Event()
        self._is_abandoned = False
        self._outcome: tuple[str, Any] = ("cancelled", None)

    def cancel(self) -> None:
        """Stop after the tiles in hand; what is finished stays."""
        self._stop.set()

    def abandon(self) -> None:
        """Stop without a report: the panel or its window is gone."""
        self.happened.disconnect()
        self.ended.disconnect()
        self._is_abandoned = True
        self.cancel()

    def work(self) -> Iterator[Any]:
        """Yield events, and at last the session or the error."""
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def compute() -> None:
            try:
                session = self.request.session(emit=messages.put, stop=self._stop)
                session.prepare()
                messages.put(session)
            except RestoreError as error:
                messages.put(error)
            except Exception as error:
                logging.getLogger(__name__).exception("attention failed")
                messages.put(
                    RestoreError(f"Preparing failed: {error}", "This is a bug; please report it.")
                )
            messages.put(None)

        threading.Thread(target=compute, name="napari-restore attention").start()
        try:
            yield from iter(messages.get, None)
        except GeneratorExit:
            # Not at the end: the session would take it for its own.
            self._stop.set()
            raise

    def receive(self, item: Any) -> None:
        """Report an event; keep the session or the error for the end."""
        if self._is_abandoned:
            return
        if isinstance(item, Event):
            self.happened.emit(item)
        elif isinstance(item, Cancelled):
            pass
        elif isinstance(item, RestoreError):
            self._outcome = ("failed", item)
        else:
            self._outcome = ("done", item)

    def finish(self) -> None:
        """Report how it ended."""
        if not self._is_abandoned:
            self.ended.emit(*self._outcome)
