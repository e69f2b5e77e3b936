"""Photos are opened by our reader, without napari's question, while there is a panel."""

from __future__ import annotations

import functools
import os
import weakref
from pathlib import PurePath

from napari_restore.api import PHOTO_SUFFIXES
from napari_restore.plugin.layers.reader import get_reader

PLUGIN = "napari-restore"
_preferring: weakref.WeakSet[PhotosPreferred] = weakref.WeakSet()


class PhotosPreferred:
    """Lets napari open photos by our reader where the user has chosen none, until `leave`.

    napari (0.9) asks which of several readers shall open a file, its own one among them. The user's
    choices are in its preferences, where a plugin has nothing to write. All windows of the process
    share them.
    """

    def __init__(self) -> None:
        _ask_here_first()
        _preferring.add(self)

    def leave(self) -> None:
        _preferring.discard(self)


@functools.cache
def _ask_here_first() -> None:
    """Put ours in the place of napari's function, for the rest of the process."""
    from napari.components import viewer_model

    chosen = getattr(viewer_model, "get_preferred_reader", None)
    if chosen is None:
        return

    def preferred(path: str | os.PathLike[str]) -> str | None:
        found: str | None = chosen(path)
        if found is not None or not _preferring:
            return found
        # Photos at an address are napari's.
        is_picture = PurePath(path).suffix.lower() in PHOTO_SUFFIXES
        return PLUGIN if is_picture and get_reader(path) is not None else None

    viewer_model.get_preferred_reader = preferred
