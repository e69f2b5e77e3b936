"""The plan in one line, Run and Cancel as one button, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QProgressBar, QWidget

from napari_restore._format import format_seconds
from napari_restore.engine import Event, Note, Phase, Progress
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks.notices import error_text, show_note, show_problem
from napari_restore.plugin.widgets.folding import add_button, column_of, in_a_row, row_of
from napari_restore.plugin.widgets.keys import with_key
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.settled_button import SettledPresses
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.runs.run_controller import RunController
    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.tasks.task import Task

    T = TypeVar("T", bound=Task)

SECONDS_BETWEEN_STEPS = 0.25
"""A step of a progress bar paints the window at once, the canvas with it."""


LINES = 2
"""Of a message, for which there always is room."""


class RunBar(QWidget):
    """The plan's line, the button that starts and stops, progress and messages."""

    # A bar that is `pinned` to the lower edge of a panel grows upwards: its buttons stay where they
    # are, whatever is said.

    pressed = Signal()
    """The button that is Run, or Cancel, was pressed."""
    live_toggled = Signal(bool)
    """Whether the live result is on."""

    def __init__(
        self, parent: QWidget | None = None, *, pinned: bool = False, verb: str = "Run"
    ) -> None:
        super().__init__(parent)
        self._pinned, self._verb = pinned, verb
        self.button = add_button(self, verb)
        self._presses = SettledPresses(self.button)
        self.live = add_button(
            self,
            "Live",
            "Restore what is in view while you pan, zoom and change settings. Slow methods "
            + with_key("show a draft; Run makes the true pixels", "live"),
            checkable=True,
        )
        for each in (self.button, self.live):
            each.setMinimumHeight(32)
        self.draft = QLabel(self, wordWrap=True)
        self.draft.setToolTip(
            "What is shown was made on a coarser level, or with statistics of a part of the image"
        )
        self.draft.hide()
        self.plan_line = WrappedLabel("", self)
        self.plan_line.setToolTip("Tiles · peak memory · time, before the run starts")
        self.progress = QProgressBar(self)
        self.message = WrappedLabel("", self)
        self.unfinished = WrappedLabel("", self)
        self.results = add_button(self, "Results", "Opens the section that lists it")
        self._earlier = in_a_row(self.unfinished, self.results)
        self._earlier.hide()
        buttons = row_of(self.button, self.live)
        lines = (self.draft, self.plan_line, self.progress, self.message, self._earlier)
        column_of(self, *((*lines, buttons) if pinned else (buttons, *lines)))
        if pinned:
            # So much is said of every run: what scrolls above keeps its height.
            self.message.setMinimumHeight(LINES * self.fontMetrics().lineSpacing())
            # Each takes the place of the other.
            self.plan_line.setMinimumHeight(self.progress.sizeHint().height())
            self.message.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._running = False
        self._possible = True
        self._stepped = 0.0
        self.progress.hide()
        # Before the run ends: this is about the press, not about what follows from it.
        self.button.clicked.connect(self._show_stopping)
        self.button.clicked.connect(self.pressed)
        self.live.toggled.connect(self.live_toggled)

    def set_live(self, on: bool) -> None:
        self.live.setChecked(on)

    def show_draft(self, text: str) -> None:
        """Show what becomes of the draft that the viewer shows; "" while it shows none."""
        self.draft.setText(text)
        self.draft.setVisible(bool(text))

    def show_earlier(self, unfinished: int, whole: int) -> None:
        """Say that the cache keeps so many runs of the image that were not finished, and results."""
        runs = "an unfinished run" if unfinished == 1 else f"{unfinished} unfinished runs"
        results = "a result" if whole == 1 else f"{whole} results"
        kept = [(runs, "Go on")] * (unfinished > 0) + [(results, "Show")] * (whole > 0)
        what, how = (" and ".join(words) for words in zip(*kept, strict=True)) if kept else ("", "")
        what = what[:1].upper() + what[1:]
        self.unfinished.setText(f"{what} of this image from earlier: Results has {how}.")
        self._earlier.setVisible(bool(kept))

    def allow(self, possible: bool) -> None:
        """Enable Run where there is an image; a run can be cancelled all the same."""
        self._possible = possible
        self.live.setEnabled(possible)
        if not self._running:
            self.button.setEnabled(possible)

    def show_running(self, running: bool) -> None:
        self._running = running
        self.button.setText("Cancel" if running else self._verb)
        self.button.setEnabled(running or self._possible)
        self._presses.turn()
        self.progress.setVisible(running)
        if self._pinned:
            self.plan_line.setVisible(not running)
        self.progress.setRange(0, 1)
        self.progress.setFormat("")

    def show_progress(self, done: int, total: int, seconds_left: float | None) -> None:
        """Show how far the present phase is; steps that follow too soon are skipped."""
        now = time.monotonic()
        same = self.progress.maximum() == max(1, total) and 0 < done < total
        if same and now - self._stepped < SECONDS_BETWEEN_STEPS:
            return
        self._stepped = now
        # Otherwise Qt paints the whole window, canvas included, from within `setValue`.
        self.progress.setUpdatesEnabled(False)
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        self.progress.setUpdatesEnabled(True)
        left = f" · {format_seconds(seconds_left)} left" if seconds_left is not None else ""
        self.progress.setFormat(f"{done} of {total}{left}")

    def show_event(self, event: Event) -> None:
        """Show an event of the engine: progress, the name of a phase, or a note."""
        if isinstance(event, Progress):
            self.show_progress(event.done, event.total, event.seconds_left)
        elif isinstance(event, Phase):
            self.show_message(f"{event.name} …")
        elif isinstance(event, Note):
            show_note(event.text)

    def show_message(self, text: str) -> None:
        self.message.setText(text)

    def _show_stopping(self) -> None:
        if self._running:
            self.button.setText("Stopping …")
            self.button.setEnabled(False)


class TaskTab(Section):
    """A tab with a bar of its own: it begins one task at a time, cancels it, and says how it ended."""

    ended = Signal(str, object)
    """As `Task.ended`."""

    bar: RunBar

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state)
        self._runs = runs
        self.task: Any = None

    def make_bar(self, verb: str = "Run") -> None:
        """Make the bar: after what Tab reaches before it."""
        self.bar = RunBar(self, verb=verb)
        self.bar.live.hide()
        self.bar.plan_line.hide()
        self.bar.pressed.connect(self.toggle)

    def toggle(self) -> None:
        """Begin what is set, or cancel what is under way."""
        if self.task is not None:
            self.task.cancel()
            return
        try:
            self.start()
        except RestoreError as error:
            show_problem(error)

    def start(self) -> None:
        """Begin what is set; raises `RestoreError` where something is missing."""
        raise NotImplementedError

    def finish(self, task: Any, status: str, outcome: Any) -> None:
        """Show what has become of a task; an error was shown already."""
        raise NotImplementedError

    def begin(self, make: Callable[[], T], what: str, message: str) -> T | None:
        """Begin a task as `RunController.begin` does, and follow it."""
        task = self._runs.begin(make, what)
        if task is not None:
            self.task = task
            task.sent.connect(self.bar.show_event)
            task.ended.connect(self._on_ended)
            self.bar.show_running(True)
            self.bar.show_message(message)
        return task

    def _on_ended(self, status: str, outcome: Any) -> None:
        task, self.task = self.task, None
        self.bar.show_running(False)
        if status == "failed":
            self.bar.show_message(error_text(outcome))
            show_problem(outcome)
        self.finish(task, status, outcome)
        self.ended.emit(status, outcome)
