"""The keys of the window: one table, from which they are bound, shown and documented; and where Tab goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QEvent, QMetaObject, Qt
from qtpy.QtGui import QFocusEvent, QResizeEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QFrame, QLabel, QWidget

from napari_restore.plugin.widgets.folding import reveal

if TYPE_CHECKING:
    from napari.components import ViewerModel


@dataclass(frozen=True)
class KeyBinding:
    """What a key does while the panel is open."""

    keys: str
    """As napari writes it, such as "Control-Enter"."""
    what: str

    @property
    def text(self) -> str:
        """As this system writes it, such as "Ctrl+Enter" or "Cmd+Enter"."""
        return str(coerce_keybinding(self.keys).to_text(use_symbols=False))


KEYS = {
    "run": KeyBinding("Control-Enter", "Run the restoration that is set"),
    "cancel": KeyBinding("Control-.", "Cancel the run"),
    "live": KeyBinding("Control-L", "Live on and off"),
    "swipe": KeyBinding("Control-B", "Compare: the swipe line on and off"),
    "blink": KeyBinding("H", "Compare: see the source for as long as it is held"),
    "undo": KeyBinding("Control-Z", "Take the last change of a result's look back"),
    "export": KeyBinding("Control-Shift-E", "Export the current result"),
    "leave": KeyBinding("Escape", "Leave the swipe line, drawing or picking a colour"),
}
"""By the name of the action. None of these is taken by napari, but for Escape, which
ends things there, too; "blink" and "leave" are bound where they act."""


class KeyBindings:
    """Binds keys while a viewer's panel is open; `leave` restores the former bindings."""

    def __init__(self, viewer: ViewerModel, actions: Mapping[str, Callable[[Any], None]]) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        for name, action in actions.items():
            keys = KEYS[name].keys
            if is_free(viewer, keys):
                viewer.bind_key(keys, action)
                self._bound.append(keys)

    def leave(self) -> None:
        for keys in self._bound:
            self._viewer.bind_key(keys, None)
        self._bound.clear()


def with_key(words: str, action: str) -> str:
    """Return a tooltip that names the key of `action`."""
    return f"{words} ({KEYS[action].text})"


def is_free(viewer: ViewerModel, keys: str) -> bool:
    """Return whether neither the user nor another plugin has bound it: theirs stay."""
    binding = coerce_keybinding(keys)
    return binding not in viewer.keymap and binding not in type(viewer).class_keymap


FRAME, DIRECT = "frame of the focus", Qt.FindChildOption.FindDirectChildrenOnly
REASON = Qt.FocusReason
BY_KEY = (REASON.TabFocusReason, REASON.BacktabFocusReason, REASON.ShortcutFocusReason)
FOR_A_WHILE = (REASON.PopupFocusReason, REASON.ActiveWindowFocusReason)


def controls_of(root: QWidget) -> Iterator[QWidget]:
    """Yield the controls of `root` that Tab may reach, line by line, each from left to right."""
    children = [
        c for c in root.findChildren(QWidget, options=DIRECT) if c.isVisible() and not c.isWindow()
    ]
    lines: list[list[QWidget]] = []
    for child in sorted(children, key=lambda child: child.y()):
        if lines and child.geometry().center().y() < lines[-1][0].geometry().bottom():
            lines[-1].append(child)
        else:
            lines.append([child])
    for line in lines:
        for child in sorted(line, key=lambda child: child.x()):
            takes = child.focusPolicy() & Qt.FocusPolicy.TabFocus and child.isEnabled()
            if takes and child.focusProxy() is None:
                yield child
            yield from controls_of(child)


def order_tab(root: QWidget) -> None:
    """Let Tab go through the controls of `root` in the order in which one sees them."""
    # Qt's own order is that of their making, in which what is made later comes last.
    for before, after in pairwise(controls_of(root)):
        QWidget.setTabOrder(before, after)


def follow_focus(control: QWidget, event: QEvent) -> None:
    """Scroll to `control` and frame it when a key has brought the focus; napari's theme shows hardly any."""
    frame = control.findChild(QFrame, FRAME, DIRECT)
    if isinstance(event, QResizeEvent):
        if frame is not None:
            frame.resize(event.size())
    elif isinstance(event, QFocusEvent) and event.gotFocus():
        if event.reason() in BY_KEY and not control.isWindow():
            reveal(control)
            frame = frame or QFrame(control)
            frame.setObjectName(FRAME)
            frame.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            colour = control.palette().windowText().color().name()
            frame.setStyleSheet(f"border: 2px solid {colour}; background: transparent")
            frame.setGeometry(control.rect())
            frame.show()
    elif isinstance(event, QFocusEvent) and event.reason() not in FOR_A_WHILE:
        now = QApplication.focusWidget() if event.reason() == REASON.OtherFocusReason else None
        notes = () if now is None else now.children()
        if any(type(each).__name__ == "NapariQtNotification" for each in notes):
            # napari gives the focus to the canvas when a note goes, wherever one types.
            QMetaObject.invokeMethod(control, "setFocus", Qt.ConnectionType.QueuedConnection)
        elif frame is not None:
            frame.hide()


def name_controls(root: QWidget) -> None:
    """Name controls of `root` that have no name for screen readers by their label, else by their group."""
    # PyQt takes an empty combo box for false.
    labels = {x.buddy(): x.text() for x in root.findChildren(QLabel) if x.buddy() is not None}
    for control in root.findChildren(QWidget):
        speaks = isinstance(control, (QLabel, QAbstractButton)) and control.text()
        if control.focusPolicy() == Qt.FocusPolicy.NoFocus or control.accessibleName() or speaks:
            continue
        place, name = control, ""
        while not name and place is not root and (above := place.parentWidget()) is not None:
            name, place = place.accessibleName() or labels.get(place, ""), above
        control.setAccessibleName(name or root.windowTitle())
