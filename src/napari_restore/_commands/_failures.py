"""Any failure a user may meet, as one of our errors."""

from __future__ import annotations

import errno
from typing import Any

from napari_restore.errors import Cancelled, DiskFull, InputError, OutOfMemory, RestoreError


def as_restore_error(error: BaseException) -> RestoreError:
    """The last net under errors that no part of the package has put into words."""
    if isinstance(error, RestoreError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Cancelled(
            "Stopped.", "Finished tiles are kept; the same command goes on from there."
        )
    if isinstance(error, MemoryError):
        return OutOfMemory("The machine ran out of memory.", "Try again with a lower --memory.")
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(f"{reason}.", "Free some space, then run the same command again.")
        if error.filename is not None:
            return InputError(f"{error.filename}: {reason}.")
        return InputError(f"{reason}.")
    raise TypeError(f"{error!r} is a bug") from error


def as_json(error: RestoreError) -> dict[str, Any]:
    """An error for wrappers."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
