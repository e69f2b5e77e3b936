"""The layer of a draft, shown until true pixels replace it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_restore.plugin.layers._layer_order import insert_above
from napari_restore.plugin.layers._names import DRAFT
from napari_restore.plugin.layers._result_layer import ResultLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore import Region
    from napari_restore.engine import Result
    from napari_restore.plugin.runs._run_sequence import RunStep

MARK = "napari_restore_draft"
WHY = "Draft: a coarser level, or statistics of a part of the image. Its pixels are not the run's."


class DraftLayer:
    """A layer over `source` that is called a draft.

    The run bar shows that it is one, too. Not napari's text on the canvas: showing it while layers
    come and go crashes vispy (napari 0.9.2, Mesa).
    """

    def __init__(
        self, viewer: ViewerModel, source: ImageLayer, step: RunStep, name: str, result: Result
    ) -> None:
        self._viewer = viewer
        self.source, self.step = source, step
        self.shown = ResultLayer(result, source, DRAFT + name, scale=step.scale)
        self.shown.layer.metadata[MARK] = True
        self.shown.layer.metadata["napari_restore_why"] = WHY
        insert_above(viewer, source, self.shown.layer)

    def show(self, step: RunStep, name: str, result: Result) -> bool:
        """Show the whole draft of another step in this layer; return whether it can be."""
        shown = ResultLayer(result, self.source, DRAFT + name, scale=step.scale)
        shown.mark_all([result.region])
        if not shown.take_layer(self.shown):
            return False
        self.step, self.shown = step, shown
        return True

    def mark(self, region: Region) -> None:
        """Show the finished tile `region`, in pixels of the draft's level."""
        self.shown.mark(region)
        self.shown.refresh()

    def remove(self) -> None:
        """Remove the layer: true pixels have replaced it, or the run has ended."""
        if self.shown.layer in self._viewer.layers:
            self._viewer.layers.remove(self.shown.layer)


def drafts_in(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the layers that are drafts."""
    return [layer for layer in viewer.layers if MARK in layer.metadata]
