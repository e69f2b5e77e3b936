"""Free space of a disk, and errors about a full one."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from napari_restore.errors import disk_full_as


def no_space_as_error(path: Path) -> AbstractContextManager[None]:
    """Turn errors of a full disk into `DiskFull` naming the folder of `path`."""
    return disk_full_as(
        f"No space is left in {path.parent}.",
        "Free some, or point NAPARI_RESTORE_CACHE or the output to another disk.",
    )


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(os.fspath(path)).free
