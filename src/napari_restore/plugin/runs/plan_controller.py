"""Keeps area and plan of a viewer up to date with its settings and its view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject, QTimer
from superqt.utils import qdebounced

from napari_restore.api import stamp_of, tried_now
from napari_restore.errors import RestoreError
from napari_restore.plugin.areas.areas import AreaController
from napari_restore.plugin.state.request import Area, Exclusion, RunRequest, TargetChoice
from napari_restore.plugin.state.state import Connections, RestoreState, view_events
from napari_restore.plugin.tasks.notices import error_text, show_problem
from napari_restore.plugin.tasks.task import LatestQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.engine import Plan

VIEW_DEBOUNCE_MS = 200
PLAN_DEBOUNCE_MS = 250
PLANNING = "Planning …"
TELL_MS = 500
"""How often it is told what a plan waits for."""
Failed = Callable[[RestoreError], object]


class PlanController(QObject):
    """Writes `state.area`, plans on another thread, and says why there is no plan.

    `problem_of_bands` returns why the roles of the bands are not known, or None.
    """

    area_changed = psygnal.Signal(object, object)
    """The `Area` of the target and None, or None and the `RestoreError` that says why."""
    line_changed = psygnal.Signal(str)
    """What is shown until `planned`: that a plan is made, why there is none, or ""."""
    planned = psygnal.Signal(str)
    """The plan in one line, or the sentence that says why there is none."""
    plan_ready = psygnal.Signal(object)
    """The `Plan`, just before its line."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        problem_of_bands: Callable[[], RestoreError | None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.is_paused = False
        """Whether a run has the worker, so that no plans are made."""
        self._state = state
        self._problem_of_bands = problem_of_bands
        self._problem: RestoreError | None = None
        self._areas = AreaController(viewer, state, self)
        self._last: tuple[RunRequest, Plan, Any] | None = None
        self._planning: RunRequest | None = None
        """What is planned soon."""
        self._query = LatestQuery("No plan", self, self._on_planned)
        self._waiting: tuple[Callable[[], None], Failed] | None = None
        """Called once the mask of excluded pixels is there, or where there is none in the end."""
        # One per object: a decorated method would share one timer among all.
        self._plan_soon = qdebounced(self._start, timeout=PLAN_DEBOUNCE_MS, parent=self)
        self._update_soon = qdebounced(self.update, timeout=VIEW_DEBOUNCE_MS, parent=self)
        self._tell_soon = QTimer(self, interval=TELL_MS)
        self._tell_soon.timeout.connect(self._tell)
        self._areas.changed.connect(self.update_drawn)
        self._areas.found.connect(self.update)
        views = (*view_events(viewer), viewer.dims.events.ndisplay)
        Connections(
            self,
            *((event, self._on_view) for event in views),
            (state.events.exclusion, self._on_exclusion),
        )

    def update(self) -> None:
        """Find the area of the target now, and plan it unless a run has the worker."""
        layer = self._state.layer
        area: Area | None = None
        self._problem = None
        if layer is not None:
            try:
                area = self._areas.area(layer)
            except RestoreError as error:
                self._problem = error
        self._state.area = area
        self.area_changed.emit(area, self._problem)
        if self._problem is None:
            self._problem = self._problem_of_bands() or self._state.not_ready
        problem = self._problem
        if area is None or problem is not None:
            self.discard()
            # The area's own problem is shown beside the target.
            self.line_changed.emit("" if area is None or problem is None else error_text(problem))
        elif not self.is_paused:
            self.line_changed.emit(PLANNING)
            self._planning = self._request()
            self._plan_soon()
            self._tell_soon.start()

    def update_drawn(self) -> None:
        """Update soon, if the target follows from what the user draws."""
        if self._state.target.is_drawn:
            self._update_soon()

    def request(self) -> RunRequest:
        """Return the request of the settings and the view now; raises `RestoreError`, while a mask is written `NotReady`."""
        self.update()
        if self._problem is not None:
            raise self._problem
        return self._request()

    def when_ready(self, then: Callable[[], None], failed: Failed = show_problem) -> None:
        """Call `then` once the mask that was not ready is there, or `failed` with the problem of that mask."""
        if self._state.not_ready is not None:
            self._waiting = then, failed
        else:
            self._areas.when_found(then)

    def plan_of(self, request: RunRequest) -> Plan | None:
        """Return the plan of `request` if it is the last one made: a run need not plan again."""
        # An array may have been edited in place since: it is planned again, on a thread.
        if self._last is None or any(frame.path is None for frame in request.image.frames):
            return None
        known, plan, stamp = self._last
        # A context that has been computed since then changes what is shown first only.
        same = known == request and known.image is request.image and stamp == _stamp_of(request)
        return plan if same else None

    def discard(self) -> None:
        self._planning = None
        self._tell_soon.stop()
        self._query.discard()

    def _request(self) -> RunRequest:
        return replace(self._state.request(), cluster=self._state.cluster)

    def _on_exclusion(self, exclusion: Exclusion) -> None:
        waiting = self._waiting
        if exclusion.pending or waiting is None:
            return
        self._waiting = None
        then, failed = waiting
        if exclusion.problem is None:
            then()
        else:
            # The user wanted these pixels left alone.
            failed(exclusion.problem)

    def _on_view(self) -> None:
        if self._state.target is TargetChoice.VISIBLE:
            self._update_soon()

    def _tell(self) -> None:
        """Say what the plan waits for: a method that is new here is tried first."""
        if method := tried_now():
            self.line_changed.emit(f"{PLANNING} Its time and memory here: {method} is tried.")

    def _start(self) -> None:
        request, self._planning = self._planning, None
        if request is not None:
            self._query.submit((request, id(request.image)), partial(_planned, request))

    def _on_planned(
        self, key: tuple[RunRequest, int], planned: tuple[Plan, str, Any] | RestoreError
    ) -> None:
        self._tell_soon.stop()
        if isinstance(planned, RestoreError):
            self._last = None
            self.planned.emit(error_text(planned))
            return
        plan, line, stamp = planned
        self._last = (key[0], plan, stamp)
        self.plan_ready.emit(plan)
        self.planned.emit(line)


def _planned(request: RunRequest) -> tuple[Plan, str, Any]:
    stamp = _stamp_of(request)
    plan = request.plan()
    return plan, plan.summary(), stamp


def _stamp_of(request: RunRequest) -> Any:
    """Return what changes with the files that a plan has read."""
    return stamp_of(
        request.model, request.weights, request.area.mask, request.options.reading.exclude
    )
