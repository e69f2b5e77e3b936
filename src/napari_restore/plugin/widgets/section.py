"""The base of the parts of the panel that can be folded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QWidget

from napari_restore.plugin.state.state import Connection, Connections, RestoreState
from napari_restore.plugin.tasks.task import LatestQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.plugin.state.variant import Variant


def end_all(owner: QObject) -> None:
    """End what `owner` and its children listen to, and drop what they do later and ask."""
    for connections in owner.findChildren(Connections):
        connections.end()
    # Those of superqt's throttled and debounced calls among them.
    for timer in owner.findChildren(QTimer):
        timer.stop()
    for query in owner.findChildren(LatestQuery):
        query.discard()


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
        self._connections, self._followed = Connections(self), Connections(self)
        self._hidden: list[Layer] = []
        """Layers that went when the section was left."""

    def own_layers(self) -> Sequence[Layer]:
        """Return the layers that are seen only while the section is shown."""
        return ()

    def setVisible(self, visible: bool) -> None:
        """Show or hide the section, and its layers with it; those that the user has hidden stay so."""
        super().setVisible(visible)
        if not visible:
            self._hidden += [layer for layer in self.own_layers() if layer.visible]
        for layer in self._hidden:
            layer.visible = visible
        if visible:
            self._hidden.clear()

    def listen(self, slot: Any, *signals: Any) -> None:
        """Connect `slot` until the section leaves."""
        self._connections.add(*((signal, slot) for signal in signals))

    def follow(self, *connections: Connection) -> None:
        """Connect these in place of those of the thing followed before, until the section leaves."""
        self._followed.turn(*connections)

    def follow_result(self, variant: Variant | None, **slots: Callable[[], object]) -> None:
        """Follow signals of a result by their names; None is followed in nothing."""
        self.follow(*((getattr(variant, name), slots[name]) for name in slots if variant))

    def leave(self) -> None:
        """End what `end_all` does not; called once after it, of sections inside as well."""
