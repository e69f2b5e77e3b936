"""What whole runs in tests share."""

from __future__ import annotations

import functools
from typing import Any

import napari_restore as nr
from napari_restore.engine import Region


@functools.cache
def model() -> Any:
    """Dark channel prior, loaded once: it is probed and timed when it is first planned with."""
    return nr.load_model("dcp")


def whole(image: Any) -> Region:
    """All of an image."""
    return Region(0, 0, image.height, image.width)
