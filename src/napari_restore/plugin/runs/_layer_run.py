"""A run together with the layer in which its pixels appear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal
from superqt.utils import qthrottled

from napari_restore import Region
from napari_restore.engine import Finished, Stopped, TileDone
from napari_restore.plugin.layers._draft_layer import DraftLayer
from napari_restore.plugin.layers._names import result_name
from napari_restore.plugin.layers._result_layer import ResultLayer
from napari_restore.plugin.results._stored_results import insert_above
from napari_restore.plugin.results._variant import Variant
from napari_restore.plugin.runs._job import Run

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Event, Result, Worker
    from napari_restore.plugin._request import Request
    from napari_restore.plugin.runs._draft import RunStep
    from napari_restore.plugin.runs._job import RunSteps

REFRESH_MS = 250


class LayerRun:
    """Runs a request on a layer and shows what it makes above that layer.

    The run ends at once when its source leaves the viewer, and is cancelled when
    its result does. Every run makes a layer of its own; a draft is shown until true
    pixels come.
    """

    planned = Signal(object)
    """The `Plan` of the true pixels."""
    happened = Signal(object)
    """Every event of theirs, and what a draft says of its phases."""
    shown = Signal(object)
    """The `Variant`, when its first tile has made its layer."""
    ended = Signal(str, object)
    """As `Run.ended`."""

    def __init__(
        self,
        viewer: ViewerModel,
        source: ImageLayer,
        request: Request,
        title: str,
        where: str,
        *,
        steps: RunSteps | None = None,
        worker: Worker | None = None,
    ) -> None:
        self.viewer = viewer
        self.source = source
        self.variant: Variant | None = None
        self.draft: DraftLayer | None = None
        self._title = title
        self._name = result_name(viewer, source, title, where)
        self._opened: ResultLayer | None = None
        """The layer of a result that has no tile yet."""
        self._waiting: list[Region] = []
        self._draw = qthrottled(self._refresh, timeout=REFRESH_MS)
        self.run = Run(request, title, steps, worker)
        self.run.planned.connect(self._on_planned)
        self.run.opened.connect(self._on_opened)
        self.run.happened.connect(self._on_happened)
        self.run.completed.connect(self._on_completed)
        self.run.ended.connect(self._on_ended)
        viewer.layers.events.removed.connect(self._on_removed)

    def start(self) -> None:
        """Begin; returns at once."""
        self.run.start()

    def cancel(self) -> None:
        """Stop within a tile; the layer keeps what is finished."""
        self.run.cancel()

    def abandon(self) -> None:
        """End for good without a report: the listener is gone."""
        for signal in (self.planned, self.happened, self.shown, self.ended):
            signal.disconnect()
        self.run.stop()

    def _on_planned(self, step: RunStep) -> None:
        if not step.is_draft:
            self.planned.emit(step.plan)

    def _on_opened(self, step: RunStep, result: Result) -> None:
        if self.source not in self.viewer.layers:
            return
        if step.is_draft:
            self.draft = DraftLayer(self.viewer, self.source, step, self._name, result)
            return
        self._opened = ResultLayer(result, self.source, self._name)

    def _on_happened(self, step: RunStep, event: Event) -> None:
        if isinstance(event, TileDone):
            self._on_tile(step, event.region)
        if step.is_draft:
            return
        if isinstance(event, (Finished, Stopped)) and self.variant is not None:
            # A stopped run has a record, but no whole result that could be saved.
            self.variant.record = event.record
            self.variant.layer.metadata["napari_restore_record"] = event.record
        self.happened.emit(event)

    def _on_tile(self, step: RunStep, region: Region) -> None:
        if step.is_draft:
            if self.draft is not None:
                self.draft.mark(region)
        elif self._opened is not None:
            self._show(self._opened, region)
        elif self.variant is not None:
            self.variant.shown.mark(region)
            self._waiting.append(region)
            self._draw()

    def _show(self, shown: ResultLayer, first: Region) -> None:
        """Add the layer with its first tile in it, so that it is drawn once, not twice."""
        self._opened = None
        if self.source not in self.viewer.layers:
            return
        shown.begin(first)
        self.variant = Variant(self.run.request, self.source, self._title, shown)
        insert_above(self.viewer, self.source, shown.layer)
        self.shown.emit(self.variant)

    def _refresh(self) -> None:
        """Draw again if a tile has come where the layer has pixels for the screen."""
        waiting, self._waiting = self._waiting, []
        if self.variant is None:
            return
        shown = self.variant.shown
        shown.refresh_after(waiting)
        if self.draft is not None and shown.covers(self.draft.step.covers):
            self._drop_draft()

    def _on_completed(self, step: RunStep, result: Result) -> None:
        if not step.is_draft and self.variant is not None:
            self._refresh()
            self.variant.complete(result)

    def _on_ended(self, status: str, outcome: Any) -> None:
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self._draw.cancel()
        self._refresh()
        self._drop_draft()
        self.ended.emit(status, outcome)

    def _drop_draft(self) -> None:
        draft, self.draft = self.draft, None
        if draft is not None:
            draft.remove()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.source:
            self.cancel()
        elif self.variant is not None and event.value is self.variant.layer:
            self.cancel()
        elif self.draft is not None and event.value is self.draft.shown.layer:
            self._drop_draft()
