"""One question under way, and the layers in which its answer comes."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from psygnal import Signal

from napari_restore.engine import Event
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.attribution._layers import AttributionLayers, Picture, picture_of
from napari_restore.plugin.threads._background_task import WatchedWork

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution._attribution_request import Question


class AttributionJob:
    """Runs an attribution on other threads, shows the map as it comes, and reports how it ended."""

    happened = Signal(object)
    """Every event of the engine."""
    appeared = Signal()
    """The first part of the map is about to be on the canvas."""
    ended = Signal(str, object)
    """``done`` and the `Attribution`, ``cancelled`` and None, ``failed`` and the `RestoreError`."""

    def __init__(
        self, viewer: ViewerModel, source: ImageLayer, question: Question, number: int
    ) -> None:
        self.question, self.source = question, source
        name = f"{number} {question.request.model}"
        self.layers = AttributionLayers(viewer, source, name, question.scale)
        self.view, self.exponent = "signed", 0.5
        self._viewer = viewer
        self._stop = threading.Event()
        self._is_silent = False
        self._outcome: tuple[str, Any] = ("cancelled", None)
        self._work = WatchedWork("attribution")

    def start(self) -> None:
        """Begin; returns at once."""
        steps = partial(answering, self.question, self._stop)
        self._work.start(steps, self._on_end, self._on_message)

    def cancel(self) -> None:
        """Stop after the point in hand; what has been shown is taken away."""
        self._stop.set()

    def abandon(self) -> None:
        """End without a report: the listener is gone."""
        self.happened.disconnect()
        self.appeared.disconnect()
        self.ended.disconnect()
        self._is_silent = True
        self.cancel()

    def _on_message(self, message: Any) -> None:
        if self._is_silent:
            # The window may be gone, and its layers with it.
            return
        gone = self.source not in self._viewer.layers
        if gone:
            self.cancel()
        if isinstance(message, Event):
            self.happened.emit(message)
        elif isinstance(message, Answer):
            if not gone:
                level = f" · 1:{self.question.scale}" if self.question.scale > 1 else ""
                method = message.found.record["attribution"]["method"]
                self.layers.name += f" · {method}{level}"
                self.layers.finish(message.picture, message.found.record, self.view, self.exponent)
                self._outcome = ("done", message.found)
        elif isinstance(message, RestoreError):
            if not isinstance(message, Cancelled):
                self._outcome = ("failed", message)
        elif not self._stop.is_set():
            if self.layers.map is None:
                self.appeared.emit()
            self.layers.partial(message)

    def _on_end(self) -> None:
        if self._is_silent:
            return
        if self._outcome[0] != "done":
            self.layers.remove()
        self.ended.emit(*self._outcome)


class Answer(NamedTuple):
    """A finished map, and what its layers show."""

    found: Attribution
    picture: Picture


def answering(question: Question, stop: threading.Event) -> Iterator[Any]:
    """Events, `PartialAttribution`s of the map and at last an `Answer` or what went wrong.

    Runs on a thread of its own, which ends soon when nobody takes any more or `stop` is set.
    """
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = question.ask(emit=messages.put, watch=messages.put, stop=stop)
            messages.put(Answer(found, picture_of(found)))
        except RestoreError as error:
            messages.put(error)
        except Exception as error:
            logging.getLogger(__name__).exception("asking failed")
            messages.put(
                RestoreError(f"The attribution failed: {error}", "This is a bug; please report it.")
            )
        messages.put(None)

    threading.Thread(target=ask, name="napari-restore attribution").start()
    try:
        yield from iter(messages.get, None)
    finally:
        stop.set()
