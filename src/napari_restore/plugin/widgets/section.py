"""The base of the parts of the panel that can be folded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtWidgets import QWidget

from napari_restore.plugin.state.state import Connections, RestoreState

if TYPE_CHECKING:
    from napari.components import ViewerModel


class Section(QWidget):
    """Listens to the viewer and its state until the panel is closed."""

    TITLE: ClassVar[str] = ""
    """The heading under which the panel folds it."""
    TIP: ClassVar[str] = ""
    """The tooltip of that heading."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__()
        self.viewer = viewer
        self.state = state
        self._connections = Connections()

    def listen(self, signal: Any, slot: Any) -> None:
        """Connect `slot` until the section leaves."""
        self._connections.add((signal, slot))

    def leave(self) -> None:
        """Disconnect from viewer and state; called once."""
        self._connections.end()
