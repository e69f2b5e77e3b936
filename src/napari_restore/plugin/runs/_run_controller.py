"""The one run of a viewer: started, shown in the bar, cancelled, brought to its end."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_restore.engine import Note, Phase, Progress
from napari_restore.errors import BadParameter
from napari_restore.plugin._notices import show_note, show_problem, words_of
from napari_restore.plugin._words import run_summary
from napari_restore.plugin.runs._layer_run import LayerRun

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from qtpy.QtWidgets import QWidget

    from napari_restore.engine import Event, Plan
    from napari_restore.plugin._request import Request
    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.results._variant import Variant
    from napari_restore.plugin.runs._run_bar import RunBar
    from napari_restore.plugin.runs._worker_warmup import LiveControl


class RunControl:
    """Starts runs one at a time and says in `bar` how they get on.

    `owner` is the widget whose end is theirs.
    """

    planned = Signal(object)
    """The `Plan` of the run under way."""
    ended = Signal(str, object, object)
    """A run ended; as `Run.ended`, and its `Request`."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        bar: RunBar,
        live: LiveControl,
        owner: QWidget,
    ) -> None:
        self.running: LayerRun | None = None
        self._viewer, self._state, self._bar, self._live = viewer, state, bar, live
        self._owner = owner
        self._noted: set[str] = set()

    def start(self, request: Request, layer: ImageLayer, title: str, where: str) -> None:
        """Run `request` on `layer`, unless a run or a folder is under way."""
        if self._state.running:
            show_note("A run is going on. Wait for its end, or press Cancel.")
            return
        run = self.running = LayerRun(
            self._viewer,
            layer,
            request,
            title,
            where,
            steps=self._live.steps(request, layer),
            worker=self._live.worker,
        )
        for signal, slot in self._signals(run):
            signal.connect(slot)
        # Closing the window destroys its widgets without closing them.
        self._owner.destroyed.connect(run.abandon)
        self._state.running = True
        self._bar.show_running(True)
        self._bar.show_message("Loading the method …")
        run.start()

    def cancel(self) -> None:
        """Stop the run within a tile."""
        if self.running is not None:
            self._bar.show_message("Stopping after the tiles in hand …")
            self.running.cancel()

    def leave(self) -> None:
        """End the run without a report: the panel is closed."""
        if self.running is not None:
            self.running.abandon()
            # Its end may be reported when the panel is gone.
            for signal, slot in self._signals(self.running):
                signal.disconnect(slot)
            self._state.running = False

    def _signals(self, run: LayerRun) -> list[tuple[Any, Any]]:
        return [
            (run.planned, self._on_planned),
            (run.happened, self._on_event),
            (run.shown, self._on_shown),
            (run.ended, self._on_ended),
        ]

    def _on_planned(self, plan: Plan) -> None:
        self._bar.show_plan(plan.summary())
        self.planned.emit(plan)

    def _on_shown(self, variant: Variant) -> None:
        self._carry_adjustment_to(variant)
        self._state.variants = (*self._state.variants, variant)
        self._state.current = variant

    def _carry_adjustment_to(self, variant: Variant) -> None:
        """Adjust it as the result of its image that was last in hand; Adjust's Undo takes it back."""
        known = (*self._state.variants, self._state.current)
        last = next((x for x in reversed(known) if x and x.source is variant.source), None)
        if last is None or last.adjustment.is_neutral:
            return
        with suppress(BadParameter):  # With other band roles it may mean nothing.
            variant.adjust(last.adjustment)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._bar.show_progress(event.done, event.total, event.seconds_left)
        elif isinstance(event, Phase):
            self._bar.show_message(f"{event.name} …")
        elif isinstance(event, Note) and event.text not in self._noted:
            # Every run of an image has the same to say of it.
            self._noted.add(event.text)
            show_note(event.text)

    def _on_ended(self, status: str, outcome: Any) -> None:
        run, self.running = self.running, None
        assert run is not None
        self._owner.destroyed.disconnect(run.abandon)
        self._state.running = False
        self._bar.show_running(False)
        if status == "failed":
            self._bar.show_message(words_of(outcome))
            show_problem(outcome)
        elif status == "cancelled":
            self._bar.show_message("Cancelled. Run again to go on from the finished tiles.")
        else:
            carried = self._state.current is not None and self._state.current.can_undo
            adjusted = " Adjusted as the result before; Adjust has Undo." if carried else ""
            self._bar.show_message(run_summary(outcome) + adjusted)
        self.ended.emit(status, outcome, run.run.request)
