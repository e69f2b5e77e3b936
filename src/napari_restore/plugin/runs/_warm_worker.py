"""The child process of a viewer, started and loaded before a run needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_restore import api

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.plugin.state._state import RestoreState

WARM_MS = 400
"""The child process is started so long after there is something to restore."""


class WarmWorker(QObject):
    """Keeps a child process warm; all runs of the panel go to `worker`, one after another."""

    def __init__(self, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self.worker = api.new_worker()
        self._state = state
        self._warmed: tuple[Any, ...] | None = None
        self._is_closed = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._warm)
        # Closing the window destroys its widgets without closing them.
        parent.destroyed.connect(self.worker.close)

    def start_soon(self, *, expects_image: bool = False) -> None:
        """Start the child, unless it is alive or there is nothing to restore and none expected."""
        if (expects_image or self._state.layer is not None) and self.worker.process is None:
            self._timer.start(WARM_MS)

    def is_new(self, plan: Plan) -> bool:
        """Return whether the child has not loaded image and model of `plan`; asked once for each.

        And once more when the image's levels are made: drafts take theirs from them.
        """
        image = plan.image
        loaded = (image, plan.model, image.is_built(len(image.level_shapes) - 1))
        before, self._warmed = self._warmed, loaded
        return before is None or any(a is not b for a, b in zip(before, loaded, strict=True))

    def load(self, plan: Plan) -> None:
        """Let the child load what `plan` needs, unless a run has it."""
        if not (self._is_closed or self._state.running):
            api.warm(self.worker, plan)

    def close(self) -> None:
        """End the child process."""
        self._is_closed = True
        self._timer.stop()
        self.worker.close()

    def _warm(self) -> None:
        # A folder's command has the memory to itself.
        if not self._state.running:
            self.worker.warm()
