"""Keeps the plan's line current without holding the window up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_restore.api import stamp_of
from napari_restore.errors import RestoreError
from napari_restore.plugin._notices import words_of
from napari_restore.plugin.threads._background import in_background

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.plugin._request import Request

DEBOUNCE_MS = 250


class Planner(QObject):
    """Plans the newest request on another thread; older answers are dropped."""

    planned = Signal(str)
    """The plan in one line, or the sentence that says why there is none."""
    settled = Signal(object)
    """The `Plan`, just before its line."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._wanted: Request | None = None
        self._last: tuple[Request, Plan, Any] | None = None
        self._busy = False
        # Held per planner: a decorated method would share one timer among all.
        self._settle = qdebounced(self._start, timeout=DEBOUNCE_MS)

    def plan(self, request: Request) -> None:
        """Plan `request` soon, unless a newer one comes."""
        self._wanted = request
        self._settle()

    def plan_of(self, request: Request) -> Plan | None:
        """The plan of `request` if it was the last one settled: a run need not wait for it."""
        if self._last is None:
            return None
        known, plan, stamp = self._last
        # A context that has been found since then changes what is shown first only.
        same = known == request and known.image is request.image and stamp == _stamp_of(request)
        return plan if same else None

    def forget(self) -> None:
        """Nothing is wanted any more."""
        self._wanted = None

    def close(self) -> None:
        """Stop the timer; an answer on its way is dropped."""
        self._wanted = self._last = None
        self._settle.cancel()

    def _start(self) -> None:
        if self._wanted is None or self._busy:
            return
        self._busy = True
        in_background(partial(_line_of, self._wanted), self._on_planned)

    def _on_planned(self, answer: tuple[Request, Plan | None, str, Any]) -> None:
        self._busy = False
        request, plan, line, stamp = answer
        wanted = self._wanted
        if request == wanted and request.image is wanted.image:
            self._wanted = None
            self._last = None if plan is None else (request, plan, stamp)
            if plan is not None:
                self.settled.emit(plan)
            self.planned.emit(line)
        elif self._wanted is not None:
            self._start()


def _line_of(request: Request) -> tuple[Request, Plan | None, str, Any]:
    stamp = _stamp_of(request)
    try:
        plan = request.plan()
    except RestoreError as error:
        return request, None, words_of(error), stamp
    except Exception as error:
        return request, None, f"No plan: {error}", stamp
    return request, plan, plan.summary(), stamp


def _stamp_of(request: Request) -> Any:
    """Of the files that a plan has looked into."""
    return stamp_of(request.model, request.weights, request.area.mask, request.exclude)
