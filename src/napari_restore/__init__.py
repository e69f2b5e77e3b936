"""Restore huge images region by region, and attribute a restoration to its input."""

from __future__ import annotations

from napari_restore.api import (
    attend,
    attribute,
    attribute_table,
    brackets,
    connect,
    fuse,
    info,
    load_model,
    open_bracket,
    open_image,
    plan,
    rerun,
    restore,
    start,
)
from napari_restore.engine import Region

__version__ = "0.1.0.dev0"

__all__ = [
    "Region",
    "__version__",
    "attend",
    "attribute",
    "attribute_table",
    "brackets",
    "connect",
    "fuse",
    "info",
    "load_model",
    "open_bracket",
    "open_image",
    "plan",
    "rerun",
    "restore",
    "start",
]
