"""A part of the panel that stands on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin._state import RestoreState


class Section(QWidget):
    """Knows the viewer and its state, and lets go of both when the panel is closed."""

    TITLE: ClassVar[str] = ""
    """The heading under which the panel folds it."""
    run_requested = Signal(object, object, str, str)
    """A run is wanted: its `Request`, the layer to restore, the model's title, the area's name."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__()
        self.viewer = viewer
        self.state = state
        self._listening: list[tuple[Any, Any]] = []

    def listen(self, signal: Any, slot: Any) -> None:
        """Connect `slot` until the section leaves."""
        signal.connect(slot)
        self._listening.append((signal, slot))

    def leave(self) -> None:
        """Let go of viewer and state; called once."""
        for signal, slot in self._listening:
            signal.disconnect(slot)
        self._listening.clear()
