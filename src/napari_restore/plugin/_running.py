"""A run together with the layer in which its pixels appear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from superqt.utils import qthrottled

from napari_restore import Region
from napari_restore.engine import Finished, Result, Stopped, TileDone
from napari_restore.plugin._job import Run
from napari_restore.plugin._result_layer import ResultLayer
from napari_restore.plugin._variant import Variant

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Event, Plan
    from napari_restore.plugin._state import Request

REFRESH_MS = 250


class LayerRun:
    """Runs a request on a layer and shows what it makes above that layer.

    The run ends at once when its source leaves the viewer, and is cancelled when
    its result does. Every run makes a layer of its own.
    """

    planned = Signal(object)
    happened = Signal(object)
    shown = Signal(object)
    """The `Variant`, when its first tile has made its layer."""
    ended = Signal(str, object)
    """As `Run.ended`."""

    def __init__(
        self, viewer: ViewerModel, source: ImageLayer, request: Request, title: str, where: str
    ) -> None:
        self.viewer = viewer
        self.source = source
        self.variant: Variant | None = None
        self._title = title
        self._name = f"{source.name} – {title} ({where})"
        self._plan: Plan | None = None
        self._waiting: list[Region] = []
        self._draw = qthrottled(self._refresh, timeout=REFRESH_MS)
        self.run = Run(request, title)
        self.run.planned.connect(self._on_planned)
        self.run.happened.connect(self._on_happened)
        self.run.ended.connect(self._on_ended)
        viewer.layers.events.removed.connect(self._on_removed)

    def start(self) -> None:
        """Begin; returns at once."""
        self.run.start()

    def cancel(self) -> None:
        """Stop within a tile; the layer keeps what is finished."""
        self.run.cancel()

    def stop(self) -> None:
        """End at once."""
        self.run.stop()

    def _on_planned(self, plan: Plan) -> None:
        self._plan = plan
        self.planned.emit(plan)

    def _on_happened(self, event: Event) -> None:
        if isinstance(event, TileDone):
            self._on_tile(event.region)
        elif isinstance(event, (Finished, Stopped)) and self.variant is not None:
            # A stopped run has a record, but no whole result that could be saved.
            self.variant.record = event.record
            self.variant.layer.metadata["napari_restore_record"] = event.record
        self.happened.emit(event)

    def _on_tile(self, region: Region) -> None:
        if self.variant is None:
            # With its first tile the store is sure to exist.
            assert self._plan is not None
            result = Result.of_run(self._plan, {})
            shown = ResultLayer(result, self.source, self._name)
            self.variant = Variant(self.run.request, self.source, self._title, shown)
            self._add(shown.layer)
            self.shown.emit(self.variant)
        self.variant.shown.mark(region)
        self._waiting.append(region)
        self._draw()

    def _add(self, layer: ImageLayer) -> None:
        """Insert above the source and the results it already has."""
        layers = self.viewer.layers
        layer.metadata["napari_restore_source"] = self.source.unique_id
        above = [
            number
            for number, other in enumerate(layers)
            if self.source.unique_id
            in (other.unique_id, other.metadata.get("napari_restore_source"))
        ]
        layers.insert(max(above) + 1, layer)

    def _refresh(self) -> None:
        """Draw again if a tile has come where the layer holds pixels for the screen."""
        waiting, self._waiting = self._waiting, []
        if self.variant is None:
            return
        shown = self.variant.shown
        loaded = loaded_region(shown)
        if any(not tile.intersect(loaded).is_empty for tile in waiting):
            shown.refresh()

    def _on_ended(self, status: str, outcome: Any) -> None:
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self._draw.cancel()
        self._refresh()
        if status == "done" and self.variant is not None and self._plan is not None:
            self.variant.result = Result.of_run(self._plan, outcome)
            self.variant.shown.finish(self.variant.result)
        self.ended.emit(status, outcome)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.source:
            self.stop()
        elif self.variant is not None and event.value is self.variant.layer:
            self.cancel()


def loaded_region(shown: ResultLayer) -> Region:
    """The level-0 pixels that a result's layer has loaded for the screen.

    That is more than is visible: napari loads whole chunks and does not load them
    again when the user pans within them.
    """
    layer = shown.layer
    if not layer.multiscale:
        return shown.region
    factors = layer.downsample_factors[layer.data_level][-2:]
    corners = layer.corner_pixels[:, -2:]
    y0, x0 = np.floor(corners[0] * factors).astype(int)
    y1, x1 = np.ceil((corners[1] + 1) * factors).astype(int)
    return Region(int(y0), int(x0), int(y1), int(x1)).shift(shown.box.y0, shown.box.x0)
