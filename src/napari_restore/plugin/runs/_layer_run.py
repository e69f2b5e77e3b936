"""A run on its thread, together with the layer in which its pixels appear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from napari.utils import cancelable_progress
from psygnal import Signal

from napari_restore.engine import Event, Finished, Progress, Stopped, TileDone
from napari_restore.plugin.layers._layer_order import insert_above, result_name
from napari_restore.plugin.layers._result_layer import ResultLayer
from napari_restore.plugin.runs._run_layers import RunLayers
from napari_restore.plugin.runs._run_sequence import RunSequence, RunStep
from napari_restore.plugin.state._variant import Variant

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Result, Worker
    from napari_restore.plugin.state._request import RunRequest


DOCK_SECONDS = 1.0
"""Runs that last longer are shown: making napari's bar takes longer than a tile."""
SECONDS_BETWEEN_STEPS = 1.0
"""Each step of napari's bar runs Qt's events, drawing among them, from within the step."""


class ActivityDock:
    """Shows the progress of one run in napari's activity dock, if it lasts."""

    def __init__(self, title: str, cancel: Callable[[], object]) -> None:
        self._title, self._cancel = title, cancel
        self._began = time.monotonic()
        self._bar: _ProgressBar | None = None
        self._is_reporting = self._is_closed = False

    def report(self, event: Event) -> None:
        # Making and moving the bar runs Qt's events, which may lead here again.
        if self._is_reporting or time.monotonic() - self._began < DOCK_SECONDS:
            return
        self._is_reporting = True
        try:
            if self._bar is None:
                self._bar = _ProgressBar(self._title, self._cancel)
            self._bar.report(event)
        finally:
            self._is_reporting = False
        if self._is_closed:
            self._bar.close()

    def close(self) -> None:
        self._is_closed = True
        if self._bar is not None and not self._is_reporting:
            self._bar.close()


class _ProgressBar(cancelable_progress):
    def __init__(self, title: str, cancel: Callable[[], object]) -> None:
        super().__init__(total=0, desc=title)
        self._cancel: Callable[[], object] | None = cancel
        self._stepped = 0.0

    def cancel(self) -> None:
        super().cancel()
        if self._cancel is not None:
            self._cancel()

    def close(self) -> None:
        super().close()
        # napari's dock keeps its bars as long as the window lives.
        self._cancel = None

    def report(self, event: Event) -> None:
        if not isinstance(event, Progress):
            return
        now = time.monotonic()
        if event.total == self.total and now - self._stepped < SECONDS_BETWEEN_STEPS:
            return
        # Before the step: events that it runs may lead here again.
        self._stepped = now
        if event.total != self.total:
            self.reset(event.total)
        self.update(event.done - self.n)


class LayerRun(RunSequence):
    """Runs a request on a layer and shows what it makes above that layer.

    Planning, jobs and their events live on another thread; signals are emitted in the GUI
    thread. The run ends when its source or its result leaves the viewer. Every run makes a
    layer of its own; a draft is shown until true pixels come.
    """

    patience_ms = 6000
    planned = Signal(object)
    """The `Plan` of the true pixels."""
    happened = Signal(object, object)
    """`RunStep` and every `Event` of its job."""
    shown = Signal(object)
    """The `Variant`, when its first tile has made its layer."""

    def __init__(
        self,
        viewer: ViewerModel,
        source: ImageLayer,
        request: RunRequest,
        title: str,
        where: str,
        steps: Iterable[RunStep],
        worker: Worker,
    ) -> None:
        """Prepare a run; `title` is the model's, `where` the area's, `steps` are planned on the thread."""
        super().__init__(steps, worker, "restoration")
        self.viewer, self.source, self.request = viewer, source, request
        self._layers = RunLayers(viewer)
        self._title = title
        self._layer_name = result_name(viewer, source, title, where)
        self._empty: ResultLayer | None = None
        """The layer of a result that has no tile yet."""
        self._dock = ActivityDock(title, self.cancel)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def variant(self) -> Variant | None:
        """The result, once its first tile is there."""
        return self._layers.variant

    def receive(self, item: Any) -> None:
        """Show what the run has sent; its first true tile adds the layer."""
        # Loads torch, which the panel does not wait for.
        from napari_restore.engine import Result

        step, content = item
        if isinstance(content, Result):
            self._on_result(step, content)
        elif not isinstance(content, Event):
            if not step.is_draft:
                self.planned.emit(content)
        elif isinstance(content, TileDone) and self._is_first(step):
            variant = self._layers.variant = self._variant_of_first(content)
            insert_above(self.viewer, self.source, variant.layer)
            self.shown.emit(variant)
            self._report(step, content)
        else:
            self._on_event(step, content)

    def finish(self) -> None:
        self._dock.close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self._layers.stop()
        self._layers.refresh()
        self._layers.remove_draft()

    def _on_result(self, step: RunStep, result: Result) -> None:
        if result.record:
            self._layers.complete(step, result)
        elif self.source in self.viewer.layers:
            if step.is_draft:
                self._layers.add_draft(self.source, step, self._layer_name, result)
            else:
                self._empty = ResultLayer(result, self.source, self._layer_name)

    def _is_first(self, step: RunStep) -> bool:
        """Return whether a tile of `step` is the first of the true pixels."""
        is_shown = self.source in self.viewer.layers
        return self._empty is not None and not step.is_draft and is_shown

    def _variant_of_first(self, tile: TileDone) -> Variant:
        """Fill the first tile into the new layer, so that it is drawn once, not twice."""
        assert self._empty is not None
        shown, self._empty = self._empty, None
        shown.begin(tile.region)
        return Variant(self.request, self.source, self._title, shown)

    def _on_event(self, step: RunStep, event: Event) -> None:
        if isinstance(event, TileDone):
            self._layers.mark(step, event.region)
        elif isinstance(event, (Finished, Stopped)) and not step.is_draft:
            if self.variant is not None:
                # A stopped run has a record, but no whole result that could be saved.
                self.variant.record = event.record
                self.variant.layer.metadata["napari_restore_record"] = event.record
        self._report(step, event)

    def _report(self, step: RunStep, event: Event) -> None:
        self.happened.emit(step, event)
        if not step.is_draft:
            # Last: napari's bar runs Qt's events, those after this one among them.
            self._dock.report(event)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.source:
            self.cancel()
        elif self.variant is not None and event.value is self.variant.layer:
            self.cancel()
        elif self._layers.is_draft(event.value):
            self._layers.remove_draft()
