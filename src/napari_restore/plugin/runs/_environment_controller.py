"""Checks, makes and chooses the environment that models run in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QObject

from napari_restore import api
from napari_restore.plugin.state import keep_python
from napari_restore.plugin.tasks import Task, error_text

if TYPE_CHECKING:
    from napari_restore.api import Environment
    from napari_restore.plugin.state import RestoreState


class EnvironmentController(QObject):
    """Writes `state.python` once the environment is checked, and keeps it in napari's preferences."""

    reported = Signal(str, bool)
    """What is being done, or has come of it; and whether it can be cancelled."""

    def __init__(self, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state
        self._task: Task | None = None

    def choose(self, path: str) -> None:
        """Check the environment of a folder or interpreter, then use it; "" is napari's own."""
        if path:
            self.reported.emit("Checking …", True)
            self._start(lambda task: api.check_environment(path, task.stop))
        else:
            self._use("", "")

    def make(self) -> None:
        """Make an environment beside the one in use, then use it and remove those made before."""
        python = self._state.python

        def work(task: Task) -> Environment:
            # What was in use when the one before it was made.
            api.remove_earlier_environments(python)
            return api.make_environment(task.send, task.stop)

        self.reported.emit("Making an environment …", True)
        self._start(work, "environment", self._remove_earlier)

    def cancel(self) -> None:
        """Stop checking or making; the environment before stays."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.abandon()

    def _start(
        self,
        work: Callable[[Task], Environment],
        name: str = "",
        after: Callable[[str], None] = lambda python: None,
    ) -> None:
        """Find an environment by `work`, use it, and call `after` with its interpreter."""
        self.close()
        self._task = Task(work, name=name, failure="There is no environment")
        self._task.sent.connect(self._on_sent)
        self._task.ended.connect(partial(self._on_ended, after))
        self._task.start(self)

    def _remove_earlier(self, python: str) -> None:
        # In a thread of its own: some GB of small files. Whoever quits meanwhile has it done next time.
        remove = partial(api.remove_earlier_environments, python)
        threading.Thread(target=remove, daemon=True).start()

    def _on_sent(self, text: str) -> None:
        self.reported.emit(text, True)

    def _on_ended(self, after: Callable[[str], None], status: str, found: Any) -> None:
        self._task = None
        if status == "done":
            self._use(found.python, str(found))
            after(found.python)
        else:
            self.reported.emit("" if found is None else error_text(found), False)

    def _use(self, python: str, about: str) -> None:
        self.reported.emit(about, False)
        keep_python(python)
        self._state.python = python
