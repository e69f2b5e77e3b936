"""Photos are opened by our reader, without napari's question."""

from __future__ import annotations

import os
from pathlib import PurePath

from napari_restore.api import PHOTO_SUFFIXES

PLUGIN = "napari-restore"
_is_preferred = False


def prefer_for_photos() -> None:
    """Let napari open photos by our reader where the user has chosen none, in this process.

    napari (0.9) asks which of several readers shall open a file, its own one among them. The user's
    choices are in its preferences, where a plugin has nothing to write.
    """
    global _is_preferred
    from napari.components import viewer_model

    chosen = getattr(viewer_model, "get_preferred_reader", None)
    if _is_preferred or chosen is None:
        return
    _is_preferred = True

    def preferred(path: str | os.PathLike[str]) -> str | None:
        found: str | None = chosen(path)
        is_photo = PurePath(path).suffix.lower() in PHOTO_SUFFIXES
        return PLUGIN if found is None and is_photo else found

    viewer_model.get_preferred_reader = preferred
