"""The sample in napari's menu."""

from __future__ import annotations

from typing import Any


def open_sample() -> list[Any]:
    """Return the hazy aerial photo that ships with the package."""
    from napari_restore.plugin.layers._reader import read
    from napari_restore.sample import SAMPLE

    return read(SAMPLE)
