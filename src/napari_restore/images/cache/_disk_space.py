"""Free space of a disk, and errors about a full one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from napari_restore.errors import DiskFull


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


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether `error` or its cause means that the disk or the quota is used up."""
    # A limit on the size of a file is no different from a full disk.
    codes = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in codes or getattr(error, "winerror", None) in (39, 112)
        ):
            return True
        # GDAL reports it only in the message.
        if any(words in str(error) for words in ("No space left on device", "File too large")):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(os.fspath(path)).free
