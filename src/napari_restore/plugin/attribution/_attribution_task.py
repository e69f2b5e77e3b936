"""One attribution under way, and the layers in which its map comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from psygnal import Signal

from napari_restore.engine import Event
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.attribution._layers import AttributionLayers, Picture, picture_of
from napari_restore.plugin.threads._stoppable_task import StoppableTask, messages_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution._attribution_request import AttributionRequest


class AttributionTask(StoppableTask):
    """Computes an attribution on other threads and shows the map as it comes.

    `ended` gives the `Attribution`; after `cancel`, what has been shown is removed.
    """

    appeared = Signal()
    """The first part of the map is about to be on the canvas."""

    def __init__(
        self, viewer: ViewerModel, source: ImageLayer, request: AttributionRequest, number: int
    ) -> None:
        super().__init__("attribution")
        self.request, self.source = request, source
        name = f"{number} {request.run.model}"
        self.layers = AttributionLayers(viewer, source, name, request.scale)
        self.view, self.exponent = "signed", 0.5
        """How the finished map is shown."""
        self._viewer = viewer

    def work(self) -> Iterator[Any]:
        """Yield what `attribution_messages` yields."""
        return attribution_messages(self.request, self._stop)

    def receive(self, item: Any) -> None:
        """Report an event, or show a part of the map."""
        is_removed = self.source not in self._viewer.layers
        if is_removed:
            self.cancel()
        if isinstance(item, Event):
            self.happened.emit(item)
        elif isinstance(item, FinishedMap):
            if not is_removed:
                self._show(item)
        elif isinstance(item, RestoreError):
            if not isinstance(item, Cancelled):
                self._outcome = ("failed", item)
        elif not self._stop.is_set():
            if self.layers.map is None:
                self.appeared.emit()
            self.layers.partial(item)

    def finish(self) -> None:
        """Remove what is not finished; the window of an abandoned one may be gone."""
        if self._outcome[0] != "done" and not self._is_abandoned:
            self.layers.remove()

    def _show(self, finished: FinishedMap) -> None:
        record = finished.attribution.record
        level = f" · 1:{self.request.scale}" if self.request.scale > 1 else ""
        self.layers.name += f" · {record['attribution']['method']}{level}"
        self.layers.finish(finished.picture, record, self.view, self.exponent)
        self._outcome = ("done", finished.attribution)


@dataclass(eq=False)
class AttributionResult:
    """An attribution that the viewer shows."""

    attribution: Attribution
    layers: AttributionLayers
    source: ImageLayer
    request: AttributionRequest

    @property
    def title(self) -> str:
        """Number, model, method, and width × height at x, y of the box."""
        y0, x0, y1, x1 = self.attribution.box
        return f"{self.layers.name} · {x1 - x0} × {y1 - y0} at {x0}, {y0}"

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return int(self.attribution.record["attribution"]["scale"])


class FinishedMap(NamedTuple):
    """A finished attribution, and what its layers show."""

    attribution: Attribution
    picture: Picture


def attribution_messages(request: AttributionRequest, stop: threading.Event) -> Iterator[Any]:
    """Yield events, each `PartialAttribution`, and at last a `FinishedMap` or the error.

    The attribution runs on a thread of its own, which ends soon when the iterator is closed or
    `stop` is set.
    """

    def compute(send: Callable[[Any], None]) -> None:
        found = request.attribute(emit=send, watch=send, stop=stop)
        send(FinishedMap(found, picture_of(found)))

    return messages_of(compute, stop, "attribution", "The attribution failed")
