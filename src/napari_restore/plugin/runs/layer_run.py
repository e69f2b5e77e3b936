"""A run on its thread, together with the layers in which its draft and its pixels appear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import psygnal
from napari.utils import cancelable_progress
from superqt.utils import qthrottled

from napari_restore.engine import Event, Finished, Progress, Stopped, TileDone
from napari_restore.plugin.layers.layer_order import (
    DRAFT,
    LIVE,
    insert_above,
    result_name,
    take_away,
    with_results,
)
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.runs._run_sequence import RunSequence, RunStep
from napari_restore.plugin.state.variant import Variant

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore import Region
    from napari_restore.engine import Result, Worker
    from napari_restore.plugin.state.request import RunRequest


MARK = "napari_restore_draft"
WHY = "Draft: a coarser level, or statistics of a part of the image. Its pixels are not the run's."


class DraftLayer:
    """A layer over `source` that is called a draft, as the run bar calls it, too."""

    # Not napari's text on the canvas: showing it while layers come and go crashes vispy (napari
    # 0.9.2, Mesa).
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
        take_away(self._viewer, self.shown.layer)


def drafts_in(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the layers that are drafts and are shown."""
    return [layer for layer in viewer.layers if MARK in layer.metadata and layer.visible]


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

    @property
    def _drafts(self) -> list[DraftLayer]:
        return [draft for draft in (self.draft, self._former) if draft is not None]

    def is_draft(self, layer: Layer) -> bool:
        return any(layer is draft.shown.layer for draft in self._drafts)

    def remove_draft(self) -> None:
        drafts = self._drafts
        self.draft = self._former = self._next = None
        for draft in drafts:
            draft.remove()

    def stop(self) -> None:
        """Draw nothing later."""
        self._draw.cancel()


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
    """Runs a request on a layer and shows what it makes above that layer."""

    # Planning, jobs and their events live on another thread; signals are emitted in the GUI thread.
    # The run ends when its source or its result leaves the viewer. Every run makes a layer of its
    # own; a draft is shown until true pixels come.

    patience_ms = 6000
    planned = psygnal.Signal(object)
    """The `Plan` of the true pixels."""
    happened = psygnal.Signal(object, object)
    """`RunStep` and every `Event` of its job."""
    taking = psygnal.Signal(object)
    """A former `Variant`, whose place the result takes now."""
    shown = psygnal.Signal(object)
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
        former: Iterable[Variant] = (),
    ) -> None:
        """Prepare a run; `title` is the model's, `where` the area's, `steps` are planned on the thread.

        One of `former`, unfinished runs and a live result, gives its place where this has its pixels, too.
        """
        super().__init__(steps, worker, "restoration")
        self.viewer, self.source, self.request = viewer, source, request
        self._layers = RunLayers(viewer)
        self._title = title
        self._former = tuple(former)
        self.planning = 0.0
        """Seconds until the first plan was made."""
        self.has_taken = False
        """Whether the result has the place of another, and looks as that."""
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
            self.planning = self.planning or time.monotonic() - self.began
            if not step.is_draft:
                self.planned.emit(content)
        elif isinstance(content, TileDone) and self._is_first(step):
            assert self._empty is not None
            shown, self._empty = self._empty, None
            # So that it is drawn once, not twice.
            shown.begin(content.region)
            variant = self._layers.variant = Variant(self.request, self.source, self._title, shown)
            self._take_place(variant)
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
        if self.outcome[0] == "done":
            # That of Live, too: the true pixels lie over it.
            drafts = [x for x in with_results(self.viewer, self.source) if MARK in x.metadata]
            take_away(self.viewer, *drafts)

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

    def _take_place(self, variant: Variant) -> None:
        """Take layer and look of a result that this one goes on with, and the name that a run gave it."""
        layers, plan = self.viewer.layers, variant.shown.result.plan
        for former in [x for x in self._former if x.has_pixels_of(plan) and x.layer in layers]:
            self.taking.emit(former)
            if not (self.has_taken or former.result or former.name.startswith(LIVE)):
                variant.layer.name = former.name
            if self.has_taken or not variant.shown.take_layer(former.shown):
                layers.remove(former.layer)
            variant.look_as(former)
            self.has_taken = True

    def _on_event(self, step: RunStep, event: Event) -> None:
        if isinstance(event, TileDone):
            self._layers.mark(step, event.region)
        elif isinstance(event, (Finished, Stopped)) and self.variant and not step.is_draft:
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
        own = None if self.variant is None else self.variant.layer
        if event.value is self.source or event.value is own:
            self.cancel()
        elif self._layers.is_draft(event.value):
            self._layers.remove_draft()
