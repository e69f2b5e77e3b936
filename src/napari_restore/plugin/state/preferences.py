"""napari's Preferences for this plugin, from which a viewer's settings begin."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import psygnal
from napari.settings import get_plugin_settings, get_settings

from napari_restore.api import use_cache_folder
from napari_restore.plugin.state.state import Connections, RestoreState
from napari_restore.plugin.tasks.notices import show_note

if TYPE_CHECKING:
    from napari_restore.images import Image

PLUGIN = "napari-restore"
LARGE = 8192**2
"""Pixels from which drawing in the background is worth a hint."""
_begun: weakref.WeakSet[RestoreState] = weakref.WeakSet()
"""States that have had the preferences; opening the panel again changes nothing."""
_hinted = False


def preferences() -> Any | None:
    """Return the group of settings that the manifest declares; None where napari has none of ours."""
    try:
        return get_plugin_settings(PLUGIN).restore
    except (KeyError, AttributeError):
        return None


class PreferenceLink:
    """Puts the preferences into a viewer's state: at first, and whenever they change."""

    # What the user sets in the panel stays until that preference changes.

    live_changed = psygnal.Signal(bool)
    """Whether to be live, when that preference is changed."""

    def __init__(self, state: RestoreState, owner: Any = None) -> None:
        self.state = state
        self._connections = Connections(owner)
        self._group: Any = preferences()
        if self._group is None:
            return
        events = self._group.events
        self._connections.add(
            (events.memory_gib, self._on_memory),
            (events.device, self._on_device),
            (events.live, self._on_live),
            (events.cache_folder, self._on_cache_folder),
        )
        self._on_cache_folder()
        if state not in _begun:
            _begun.add(state)
            self._on_memory()
            self._on_device()

    def leave(self) -> None:
        self._connections.end()
        self._group = None

    def _on_memory(self) -> None:
        self.state.memory_gib = float(self._group.memory_gib)

    def _on_device(self) -> None:
        self.state.set_options(device=str(self._group.device))

    def _on_cache_folder(self) -> None:
        use_cache_folder(str(self._group.cache_folder).strip())

    @property
    def live(self) -> bool:
        """Whether a panel begins live."""
        return self._group is not None and bool(self._group.live)

    def _on_live(self) -> None:
        self.live_changed.emit(self.live)


def hint_at_async(image: Image) -> None:
    """Note once that napari can draw large images in the background, if it does not."""
    global _hinted
    group = preferences()
    if _hinted or group is None or not group.async_hint or image.height * image.width < LARGE:
        return
    if get_settings().experimental.async_:
        return
    _hinted = True
    show_note(
        "This image is large. Preferences > Experimental > Render Layers Asynchronously "
        "keeps the window free while it is drawn."
    )
