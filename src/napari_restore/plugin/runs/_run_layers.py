"""The draft and the result of a run, drawn while tiles finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superqt.utils import qthrottled

from napari_restore.plugin.layers._layer_order import DRAFT, insert_above
from napari_restore.plugin.layers._result_layer import ResultLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer

    from napari_restore import Region
    from napari_restore.engine import Result
    from napari_restore.plugin.runs._run_sequence import RunStep
    from napari_restore.plugin.state._variant import Variant


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


REFRESH_MS = 250
AT_ONCE_SECONDS = 1.0
"""A draft that takes no longer is shown when it is whole, in the layer of the one before."""


class RunLayers:
    """Shows the tiles of a run in its draft and in its result; true pixels replace the draft."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.variant: Variant | None = None
        self.draft: DraftLayer | None = None
        self._former: DraftLayer | None = None
        """The whole draft before, shown below this one until that is whole as well."""
        self._is_whole = False
        self._next: str | None = None
        """The name of a draft that is shown when it is whole."""
        self._waiting: list[Region] = []
        self._draw = qthrottled(self.refresh, timeout=REFRESH_MS)

    def add_draft(self, source: ImageLayer, step: RunStep, name: str, result: Result) -> None:
        """Begin a draft above `source`; once it is whole it replaces the one before."""
        self._next = None
        if self._former is not None:
            assert self.draft is not None
            self.draft.remove()
            self.draft, self._former, self._is_whole = self._former, None, True
        if self.draft is not None:
            if not (self._is_whole and self.draft.source is source):
                self.draft.remove()
            elif step.plan.prediction.seconds <= AT_ONCE_SECONDS:
                self._next = name
                return
            else:
                self._former = self.draft
                # Names are unique; napari would number the new one.
                self._former.shown.layer.name = f"{DRAFT}…"
        self._is_whole = False
        self.draft = DraftLayer(self.viewer, source, step, name, result)

    def mark(self, step: RunStep, region: Region) -> None:
        """Show a finished tile of `step`, true pixels at most every `REFRESH_MS`."""
        if step.is_draft:
            if self.draft is not None and self._next is None:
                self.draft.mark(region)
        elif self.variant is not None:
            self.variant.shown.mark(region)
            self._waiting.append(region)
            self._draw()

    def complete(self, step: RunStep, result: Result) -> None:
        """Show the whole result of `step`; that of a draft replaces the draft before."""
        if step.is_draft:
            self._complete_draft(step, result)
        elif self.variant is not None:
            self.refresh()
            self.variant.complete(result)

    def _complete_draft(self, step: RunStep, result: Result) -> None:
        name, self._next = self._next, None
        former, self._former, self._is_whole = self._former, None, True
        if name is not None and self.draft is not None and not self.draft.show(step, name, result):
            former = self.draft
            self.draft = DraftLayer(self.viewer, former.source, step, name, result)
            self.draft.mark(result.region)
        if former is not None:
            former.remove()

    def refresh(self) -> None:
        """Draw again if a tile has come where the layer has pixels for the screen."""
        waiting, self._waiting = self._waiting, []
        if self.variant is None or self.variant.layer not in self.viewer.layers:
            return
        shown = self.variant.shown
        shown.refresh_after(waiting)
        if self.draft is not None and shown.covers(self.draft.step.covers):
            self.remove_draft()

    def is_draft(self, layer: Layer) -> bool:
        drafts = (self.draft, self._former)
        return any(draft is not None and layer is draft.shown.layer for draft in drafts)

    def remove_draft(self) -> None:
        drafts = (self.draft, self._former)
        self.draft = self._former = self._next = None
        for draft in drafts:
            if draft is not None:
                draft.remove()

    def stop(self) -> None:
        """Draw nothing later."""
        self._draw.cancel()
