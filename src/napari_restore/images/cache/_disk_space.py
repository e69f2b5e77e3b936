"""Free space of a disk, and errors about a full one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from napari_restore.errors import DiskFull, is_disk_full


class no_space_as_error:
    """Context manager that turns errors of a full disk into `DiskFull` naming the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if is_disk_full(error):
            raise DiskFull(
                f"No space is left in {self.path.parent}.",
                "Free some, or point NAPARI_RESTORE_CACHE or the output to another disk.",
            ) from error


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(os.fspath(path)).free
