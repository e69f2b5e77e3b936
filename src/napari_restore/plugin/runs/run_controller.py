"""Starts and ends what computes in a viewer: runs, live results, folders, and tasks of other tabs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psygnal
from qtpy.QtCore import QObject, QTimer

from napari_restore import api
from napari_restore.engine import Note, Phase, Progress
from napari_restore.errors import Cancelled, ResourceError, RestoreError
from napari_restore.plugin.layers.layer_order import insert_above
from napari_restore.plugin.layers.placing import visible_region
from napari_restore.plugin.results.variant_text import run_summary
from napari_restore.plugin.runs._live import Live, LiveRequest
from napari_restore.plugin.runs._run_sequence import RunStep
from napari_restore.plugin.runs.draft import Viewport, first_step, viewport_of
from napari_restore.plugin.runs.layer_run import LayerRun, drafts_in
from napari_restore.plugin.state.request import (
    Area,
    ConnectedCluster,
    NotReady,
    RunRequest,
    Workers,
    connected,
    workers_of,
)
from napari_restore.plugin.state.state import Connections, RestoreState, image_of, view_events
from napari_restore.plugin.tasks.notices import error_text, show_note, show_problem
from napari_restore.plugin.tasks.task import Task, in_background

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore import Region
    from napari_restore.engine import Cluster, Event, Plan, Worker
    from napari_restore.plugin.runs.plan_controller import PlanController
    from napari_restore.plugin.state.disk_watch import DiskWatch
    from napari_restore.plugin.state.variant import Variant
    from napari_restore.questions import Restore


LOOK_MS = 3000
"""How often the workers are counted."""


class ClusterController(QObject):
    """Writes `state.cluster`; connecting, counting workers and leaving happen on other threads."""

    connecting = psygnal.Signal(str)
    """A connection to the cluster of this name is being made."""
    connected = psygnal.Signal(object, object)
    """There is a connection, or its workers were counted: `ConnectedCluster` and `Workers`."""
    disconnected = psygnal.Signal(object)
    """There is no connection any more; the `RestoreError` that says why, or None after a wish."""

    def __init__(self, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state
        self._attempt: _Connecting | None = None
        self._is_looking = False
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self.look)
        # Closing the window destroys its widgets without closing them.
        parent.destroyed.connect(partial(_close_of, state))

    def connect_to(self, name: str) -> None:
        """Connect to the cluster `name`, as `napari_restore.connect` takes it."""
        if self._attempt is None and self._state.cluster is None:
            self._attempt = _Connecting(name)
            self._attempt.ended.connect(self._on_answer)
            self.connecting.emit(name)
            self._attempt.start(self)

    def disconnect_now(self, error: RestoreError | None = None) -> None:
        """Leave the cluster, or give up connecting; `error` says why where it is no wish."""
        self.close()
        self.disconnected.emit(error)

    def look(self) -> None:
        """Count the workers, and leave a cluster whose scheduler is gone."""
        cluster = self._state.cluster
        if cluster is not None and not self._is_looking:
            self._is_looking = True
            in_background(partial(workers_of, cluster.cluster), self._on_counted, cluster)

    def close(self) -> None:
        """Leave the cluster without a report: the panel is closed."""
        self._timer.stop()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon()
        _close_of(self._state)
        self._state.cluster = None

    def _on_answer(self, status: str, answer: Any) -> None:
        self._attempt = None
        if status != "done":
            self.disconnected.emit(answer)
            return
        cluster, workers = answer
        self._state.cluster = cluster
        self.connected.emit(cluster, workers)
        self._timer.start()

    def _on_counted(self, cluster: ConnectedCluster, workers: Workers) -> None:
        self._is_looking = False
        if cluster is not self._state.cluster:
            return
        if not workers.is_lost:
            self.connected.emit(cluster, workers)
        elif not self._state.running:
            # A run ends by itself, with a sentence of its own.
            self.disconnect_now(
                ResourceError(
                    f"The scheduler of {cluster.name} is gone.",
                    "Connect again, or run on this machine.",
                )
            )


class _Connecting(Task):
    """One connection being made, which is closed where nobody wants it any more."""

    def __init__(self, name: str) -> None:
        super().__init__(failure="The connection failed")
        self._name = name

    def work(self) -> tuple[ConnectedCluster, Workers]:
        made = connected(self._name)
        workers = workers_of(made.cluster)
        if self.stop.is_set():
            made.cluster.close()
            raise Cancelled("Connecting was cancelled.")
        return made, workers

    def finish(self) -> None:
        """Close a connection that was made as it was given up."""
        if self._is_abandoned and self.outcome[0] == "done":
            _close(self.outcome[1][0].cluster)


def _close_of(state: RestoreState) -> None:
    if state.cluster is not None:
        _close(state.cluster.cluster)


def _close(cluster: Cluster) -> None:
    """Close a connection, on a thread: a scheduler that is gone is waited for."""
    Task(lambda _: cluster.close(), failure="The cluster was not left").start()


FOLDER = "napari_restore.commands.worker:restore_folder"
"""What the child calls to restore a folder as the command line does."""
WARM_MS = 400
"""The child process is started so long after there is something to restore."""


class FolderRun(Task):
    """Restores a folder in `worker`, as `napari-restore` with `arguments` does.

    `ended` gives the images: "source", "status" and "error" of each.
    """

    patience_ms = 6000
    image_started = psygnal.Signal(str, int, int)
    """Name, number and count of the images."""
    progressed = psygnal.Signal(int, int)
    """Steps done and steps of the present image."""

    def __init__(self, arguments: Sequence[str], worker: Worker) -> None:
        super().__init__(name="restoration of a folder", failure="The folder cannot be restored")
        self.arguments = list(arguments)
        self._worker = worker

    def kill(self) -> None:
        self._worker.kill()

    def abandon(self) -> None:
        super().abandon()
        self.kill()

    def work(self) -> list[dict[str, Any]]:
        """Send the events of the child; returns what became of the images."""
        question = {"arguments": self.arguments}
        images: list[dict[str, Any]]
        images = self._worker.call(FOLDER, question, self.send, self.stop)
        return images

    def receive(self, item: dict[str, Any]) -> None:
        if item["event"] == "ImageStarted":
            self.image_started.emit(item["name"], item["number"], item["images"])
        elif item["event"] == "Progress":
            self.progressed.emit(item["done"], item["total"])


BUSY = "A run is going on. Wait for its end, or press Cancel."
LIVE_SETTINGS = tuple("layer named method exclusion".split())
"""Settings that make another live result."""
T = TypeVar("T", bound=Task)


class RunController(QObject):
    """Runs one task of a viewer at a time, and live results in between, until `owner` is destroyed."""

    # Views connect to its signals; it knows none of them.

    starting = psygnal.Signal()
    """A run of what is set is about to start."""
    started = psygnal.Signal()
    """A run has started."""
    planned = psygnal.Signal(object)
    """The `Plan` of the run under way."""
    progressed = psygnal.Signal(int, int, object)
    """Steps done, steps in all and seconds left, or None, of the run's present phase."""
    message = psygnal.Signal(str)
    """One sentence on what the run does or has done, or why there is no live result."""
    draft_message = psygnal.Signal(str)
    """What becomes of the draft that the viewer shows; "" while it shows none."""
    ended = psygnal.Signal(str, object, object)
    """A run ended: as `LayerRun.ended`, and its `RunRequest`."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        plans: PlanController,
        disk: DiskWatch,
        owner: QObject,
    ) -> None:
        super().__init__(owner)
        self.task: Task | None = None
        """What is under way and has the memory."""
        self._viewer, self._state, self.plans, self._owner = viewer, state, plans, owner
        self._disk = disk
        self.worker = api.new_worker()
        """The child process to which all runs of the panel go, one after another; kept warm."""
        # Closing the window destroys its widgets without closing them.
        owner.destroyed.connect(self.worker.close)
        self._loaded: tuple[Any, ...] | None = None
        """Image and model that the child has been asked to load, and whether the levels were made."""
        self._warm_soon = QTimer(self, singleShot=True, interval=WARM_MS)
        self._warm_soon.timeout.connect(self._warm)
        self.questions = api.new_worker()
        """The child process of what is asked beside a run, which must not wait for its end."""
        owner.destroyed.connect(self.questions.close)
        self.clusters = ClusterController(state, owner)
        self.live = Live(viewer, self._live_request, self.worker, owner)
        self.defers: Callable[[Callable[[], object]], bool] = lambda then: False
        """Whether what is to be restored is still being made; then it calls what it is given."""
        self._is_closed = False
        self._shown_notes: set[tuple[str, str]] = set()
        self._there: list[Variant] = []
        """The result that the run under way would make again."""
        self.live.shown.connect(self._make_current)
        self.live.updated.connect(self._show_draft)
        self.live.noted.connect(self._on_event)
        self.live.failed.connect(self._on_live_failed)
        events = state.events
        Connections(
            self,
            *((getattr(events, name), self.live.update) for name in LIVE_SETTINGS),
            (events.options, self._on_options),
            (events.running, self._on_running),
            (events.layer, self._start_worker),
            *((event, self.live.update) for event in view_events(viewer)),
            (viewer.layers.events.inserted, self._show_draft),
            (viewer.layers.events.removed, self._show_draft),
            (plans.plan_ready, self._on_plan_ready),
        )
        self._start_worker()

    def expect_image(self) -> None:
        """Start the child process for an image that is not there yet."""
        if self.worker.process is None:
            self._warm_soon.start()

    @property
    def running(self) -> LayerRun | None:
        return self.task if isinstance(self.task, LayerRun) else None

    # -- one task at a time --------------------------------------------------------

    def toggle(self) -> None:
        """Run what is set, in a layer of its own; or cancel the run under way."""
        if self.running is not None:
            self.cancel()
            return
        if self.defers(self.run):
            self.message.emit("Runs once the frames are aligned, unless that is cancelled.")
            return
        try:
            self._disk.bring_up_to_date(self._state.layer)
            request = self.plans.request()
        except NotReady:
            self.plans.when_ready(self.run)
            return
        except RestoreError as error:
            show_problem(error)
            return
        if self._is_free():
            assert self._state.layer is not None
            self.starting.emit()
            where = self._state.target.value
            self._begin(self._new_run(request, self._state.layer, self._state.method.title, where))

    def run(self) -> None:
        """Run what is set, unless a run is under way."""
        if self.running is None:
            self.toggle()

    def start(
        self, request: RunRequest, layer: ImageLayer, title: str, where: str = "again"
    ) -> LayerRun | None:
        """Run `request` on `layer`, whatever is set; None while another task is under way."""
        if not self._is_free():
            return None
        return self._begin(self._new_run(request, layer, title, where))

    def begin(self, make: Callable[[], T], what: str) -> T | None:
        """Begin the task that `make` returns; None while another task is under way."""
        if not self._is_free():
            return None
        # The words `what` name it where a cluster is connected, which does not compute it:
        # "Attention is".
        if self._state.cluster is not None:
            self._note_once(f"{what} computed on this machine, not on the cluster.")
        return self._begin(make())

    def cancel(self) -> None:
        if self.running is not None:
            self.message.emit("Stopping after the tiles in hand …")
            self.running.cancel()

    def close(self) -> None:
        """End everything without a report: the panel is closed."""
        self._is_closed = True
        task, self.task = self.task, None
        if task is not None:
            task.abandon()
            self._state.running = False
        self.live.close()
        self.worker.close()
        self.questions.close()
        self.clusters.close()

    def _is_free(self) -> bool:
        """Return whether no task is under way; shows a note otherwise."""
        if self._state.running:
            show_note(BUSY)
        return not self._state.running

    def _note_once(self, text: str, about: str = "") -> None:
        if (text, about) not in self._shown_notes:
            self._shown_notes.add((text, about))
            show_note(text, about)

    def _begin(self, task: T) -> T:
        self.task = task
        # First: those who listen to the end may start the next task.
        task.ended.connect(self._on_task_ended)
        self._state.running = True
        task.start(self._owner)
        if isinstance(task, LayerRun):
            self._follow(task)
        return task

    def _on_task_ended(self, *_: Any) -> None:
        self.task = None
        self.plans.is_paused = False
        self._state.running = False

    # -- a run ---------------------------------------------------------------------

    def _new_run(self, request: RunRequest, layer: ImageLayer, title: str, where: str) -> LayerRun:
        # An earlier request may name a cluster that was left.
        request = replace(request, cluster=self._state.cluster)
        known = self.plans.plan_of(request)
        self.plans.discard()
        self.plans.is_paused = True
        whole = self._whole_results(layer)
        self._there.clear()
        steps = self._steps(request, known, self._viewport(layer), *whole)
        former = [x for x in self._state.variants if x.source is layer and x not in whole]
        return LayerRun(self._viewer, layer, request, title, where, steps, self.worker, former)

    def _steps(
        self, request: RunRequest, known: Plan | None, viewport: Viewport | None, *whole: Variant
    ) -> Iterator[RunStep]:
        """Yield a draft where that is shown sooner, then the true pixels; none if one of `whole` is that result."""
        true = request.plan(compare=True) if known is None else known
        self._there += [variant for variant in whole if variant.is_of(true)][:1]
        if self._there:
            return
        cluster, view = request.cluster, None if viewport is None else viewport.region
        # A draft must come at once.
        here = replace(request, cluster=None)
        if viewport is not None and (draft := first_step(here, viewport, true)) is not None:
            yield draft
        yield RunStep(true, False, cluster=None if cluster is None else cluster.cluster, view=view)

    def _whole_results(self, layer: ImageLayer) -> list[Variant]:
        """Return the results of runs on `layer` that are complete."""
        known = [x for x in self._state.variants if x not in self.live.results]
        return [x for x in known if x.source is layer and x.result is not None]

    def _follow(self, run: LayerRun) -> None:
        """Report what becomes of `run`; its thread has begun, its signals come later."""
        run.planned.connect(self._on_planned)
        run.happened.connect(self._on_event)
        run.taking.connect(self.live.hand_over)
        run.shown.connect(self._on_shown)
        run.ended.connect(partial(self._on_run_ended, run))
        self.started.emit()
        self.message.emit("Loading the method …")

    def _on_planned(self, plan: Plan) -> None:
        self.planned.emit(plan)

    def _on_shown(self, variant: Variant) -> None:
        """Adjust it as the latest result of its image; Adjust's Undo takes it back."""
        known = (*self._state.variants, self._state.current)
        last = next((x for x in reversed(known) if x and x.source is variant.source), None)
        has_look = self.running is not None and self.running.has_taken
        if last is not None and not has_look and not variant.is_adjusted:
            variant.try_adjust(last.look)
        self._make_current(variant)

    def _make_current(self, variant: Variant) -> None:
        # Another one may have had its layer.
        others = [x for x in self._state.variants if x.layer is not variant.layer]
        self._state.variants = (*others, variant)
        self._state.current = variant

    def _on_event(self, step: RunStep, event: Event) -> None:
        if step.is_draft:
            return
        if isinstance(event, Progress):
            self.progressed.emit(event.done, event.total, event.seconds_left)
        elif isinstance(event, Phase):
            self.message.emit(f"{event.name} …")
        elif isinstance(event, Note):
            # Every run of an image has the same notes.
            self._note_once(event.text, step.plan.image.name)

    def _is_set(self, run: LayerRun) -> bool:
        """Return whether Run would go on with `run`, wherever the view has moved."""
        try:
            now = replace(self._state.request(run.request.area), cluster=run.request.cluster)
        except RestoreError:
            return False
        return now == run.request and self._state.layer is run.source

    def _on_run_ended(self, run: LayerRun, status: str, outcome: Any) -> None:
        half = run.variant
        if status == "failed":
            text = error_text(outcome)
        elif status == "cancelled":
            text = "Cancelled. Run again to go on from the finished tiles."
            if half is None:
                text = "Cancelled before the first tile was shown."
            elif not self._is_set(run):
                text = f"Cancelled: {half.name}. Use these settings (Results) and Run go on."
        elif self._there:
            variant = self._there.pop()
            insert_above(self._viewer, variant.source, variant.layer)
            text = f"All of it had been restored before: {variant.name} is shown."
        else:
            current = self._state.current
            waited = time.monotonic() - run.began
            text = run_summary(outcome, waited, run.planning)
            if current is not None and current.can_undo:
                text += " Adjusted as the result before; Adjust has Undo."
        self.message.emit(text)
        if status == "failed":
            show_problem(outcome)
            self.clusters.look()
        self.ended.emit(status, outcome, run.request)

    # -- live ----------------------------------------------------------------------

    def _live_request(self) -> LiveRequest | None:
        layer = self._state.layer
        viewport = None if layer is None else self._viewport(layer)
        if layer is None or viewport is None:
            return None
        try:
            request = self._state.request(Area((viewport.region,)))
        except RestoreError:
            return None
        return request, viewport, layer, self._state.method.title, self._whole_results(layer)

    def _viewport(self, layer: ImageLayer) -> Viewport | None:
        try:
            image = image_of(layer)
            region: Region = visible_region(self._viewer, layer, (image.height, image.width))
        except RestoreError:
            return None
        if self._state.crop and (common := api.common_region(image)) is not None:
            # As a run of the whole image.
            region = region.intersect(common)
        return None if region.is_empty else viewport_of(self._viewer, layer, region)

    def _on_options(self, options: Restore, before: Restore) -> None:
        # What is stored beside the pixels changes no picture, nor do the edges of areas.
        if replace(options, target=before.target, storing=before.storing) != before:
            self.live.update()

    def _on_running(self, running: bool) -> None:
        self.live.pause(running)
        self._show_draft()
        if not running:
            # The child may have ended to make room.
            self._start_worker()

    def _show_draft(self) -> None:
        """Report whether true pixels will replace a draft."""
        coming = self._state.running or self.live.is_busy
        text = "Draft: true pixels follow" if coming else "Draft: Run makes the true pixels"
        drafts = drafts_in(self._viewer)
        for layer in drafts:
            layer.events.visible.connect(self._show_draft)
        self.draft_message.emit(text if drafts else "")

    def _on_live_failed(self, error: RestoreError) -> None:
        self.message.emit(error_text(error))
        show_problem(error)

    # -- the child process -----------------------------------------------------------

    def _start_worker(self) -> None:
        """Start the child soon, unless it is alive or there is nothing to restore."""
        if self._state.layer is not None:
            self.expect_image()

    def _warm(self, plan: Plan | None = None) -> None:
        """Start the child, and let it load what `plan` needs, unless a run has it."""
        if not (self._is_closed or self._state.running):
            api.warm(self.worker, plan)

    def _is_new(self, plan: Plan) -> bool:
        """Return whether the child has not loaded image and model of `plan`; asked once for each."""
        image = plan.image
        # And once more when the image's levels are made: drafts take theirs from them.
        loaded = (image, plan.model, image.is_built(len(image.level_shapes) - 1))
        before, self._loaded = self._loaded, loaded
        return before is None or any(a is not b for a, b in zip(before, loaded, strict=True))

    def _on_plan_ready(self, plan: Plan) -> None:
        """Let the child load what the plan needs, and what a draft of the view needs."""
        if self._state.running or self.live.is_on or not self._is_new(plan):
            return
        if self._state.cluster is None:
            self._warm(plan)
        live_request = self._live_request()
        if live_request is not None and plan.needs_context_pass:
            request, viewport, *_ = live_request
            # It must come at once.
            in_background(partial(first_step, request, viewport, plan), self._on_first_step)

    def _on_first_step(self, step: RunStep | None) -> None:
        if step is not None and not self.live.is_on:
            self._warm(step.plan)
