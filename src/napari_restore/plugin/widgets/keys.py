"""The keys of the window: one table, from which they are bound, shown and documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.utils.key_bindings import coerce_keybinding

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
