"""Atomic replacement of the files of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from napari_restore import extension
from napari_restore.extension import disk_full_as


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` atomically.

    On failure `path` is unchanged and the temporary file removed. Raises `DiskFull` on a full disk.
    """
    with (
        disk_full_as(f"No space is left for {path}.", "Free some, then continue."),
        extension.replacing(path) as part,
    ):
        yield part
