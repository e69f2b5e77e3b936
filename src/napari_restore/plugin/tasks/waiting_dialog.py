"""Dialogs that keep the rest of napari shut: while a task is waited for, and for a question."""

from __future__ import annotations

from qtpy.QtCore import QEventLoop, Qt
from qtpy.QtWidgets import QApplication, QLabel, QMessageBox, QProgressDialog, QWidget

from napari_restore._format import format_seconds
from napari_restore.errors import escape_controls
from napari_restore.plugin.tasks.task import Task

PATIENCE = 0.5
"""Seconds that a task may take without a dialog."""


class WaitingDialog(QProgressDialog):
    """Shows how far a task is, and cancels it."""

    def __init__(self, task: Task, title: str, text: str) -> None:
        super().__init__("", "Cancel", 0, 0, QApplication.activeWindow())
        self._text = escape_controls(text)
        self._label = QLabel(self._text, self)
        # Names are no markup.
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self.setLabel(self._label)
        self.setWindowTitle(title)
        self.setWindowModality(Qt.WindowModality.ApplicationModal)
        self.setAutoReset(False)
        self.setAutoClose(False)
        self.reset()  # else it shows itself after a while of its own
        self._task = task
        self.has_ended = False
        self._loop = QEventLoop(self)
        self.canceled.connect(task.cancel)
        task.ended.connect(self._on_ended)

    def show_progress(self, progress: tuple[int, int, float | None]) -> None:
        """Show steps done, steps in all and seconds left, or None."""
        done, total, left = progress
        self.setRange(0, max(1, total))
        self.setValue(min(done, total))
        text = self._text
        self._label.setText(text if left is None else f"{text}\n{format_seconds(left)} left")

    def wait(self, *, for_cancel: bool) -> None:
        """Return once the task has ended or, unless `for_cancel`, was cancelled."""
        if not for_cancel:
            self.canceled.connect(self._loop.quit)
        if not self.has_ended:
            self._loop.exec()
        self.canceled.disconnect()
        self._task.ended.disconnect(self._on_ended)
        self.close()
        self.deleteLater()

    def _on_ended(self) -> None:
        self.has_ended = True
        self._loop.quit()


def wait_for(task: Task, title: str, text: str, *, for_cancel: bool) -> None:
    """Start a task and wait in the GUI thread, with a dialog when it takes long, until its end or a cancel."""
    # It waits for a cancelled one, too, where it is `for_cancel`.
    task.start()
    if not task.wait(PATIENCE):
        dialog = WaitingDialog(task, title, text)
        task.sent.connect(dialog.show_progress)
        dialog.show()
        dialog.wait(for_cancel=for_cancel)


def ask(
    parent: QWidget | None, title: str, text: str, about: str, *answers: str, usual: str = ""
) -> str:
    """Ask `text`, and say what one should know `about` it; return the answer whose button was pressed.

    Escape gives the last one. The `usual` one is that of the Return key, by default the first.
    """
    box = QMessageBox(QMessageBox.Icon.Question, title, text, parent=parent)
    # Names are no markup.
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setInformativeText(about)
    role = QMessageBox.ButtonRole
    roles = [role.AcceptRole, *[role.ActionRole] * (len(answers) - 2), role.RejectRole]
    buttons = [box.addButton(*each) for each in zip(answers, roles, strict=True)]
    box.setDefaultButton(buttons[answers.index(usual or answers[0])])
    box.exec()
    box.deleteLater()
    pressed = box.clickedButton()
    given = (answer for answer, each in zip(answers, buttons, strict=True) if each is pressed)
    return next(given, answers[-1])
