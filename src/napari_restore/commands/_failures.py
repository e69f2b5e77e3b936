"""Converts exceptions to errors of the package."""

from __future__ import annotations

from typing import Any

from napari_restore._format import format_size
from napari_restore.errors import (
    Cancelled,
    DiskFull,
    InputError,
    OutOfMemory,
    ResourceError,
    RestoreError,
    is_disk_full,
    why_no_torch,
)

STOPPED = ("Stopped.", "Run the same command again: what it has kept is not computed again.")
"""Message and next step of whatever Ctrl-C ends; not all commands keep something."""
TORCH_BYTES = 1 << 30
"""Address space of PyTorch with its threads, measured on two cores."""


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether a library without MemoryError ran out of memory or address space."""
    if isinstance(error, ImportError):
        return "failed to map segment" in str(error) or "Cannot allocate memory" in str(error)
    messages = ("can't start new thread", "not enough memory", "can't allocate memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in messages)


def as_restore_error(error: BaseException) -> RestoreError:
    """Convert errors that no other part of the package has converted; raises one that is a bug."""
    if isinstance(error, RestoreError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Cancelled(*STOPPED)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return InputError("The name of a file is not UTF-8.", "Rename it first.")
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return _out_of_memory()
    if (why := why_no_torch(error)) is not None:
        return ResourceError(
            f"torch cannot be imported: {why}.",
            "Install it again: pip install --force-reinstall torch.",
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if is_disk_full(error):
            return DiskFull(f"{reason}.", "Free some space, then run the same command again.")
        if error.filename is not None:
            return InputError(f"{error.filename}: {reason}.")
        return InputError(f"{reason}.")
    raise error


def check_address_space() -> None:
    """Raise `OutOfMemory` where PyTorch cannot be loaded, which would end the process."""
    limit = _address_space()
    if limit is not None and limit < TORCH_BYTES:
        raise OutOfMemory(
            f"The process may take {format_size(limit)} of address space, but PyTorch needs "
            f"{format_size(TORCH_BYTES)}.",
            "Raise the limit (ulimit -v); --memory is the limit of a run.",
        )


def _address_space() -> int | None:
    """Return the bytes the process may map; None without a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _out_of_memory() -> OutOfMemory:
    limit = _address_space()
    if limit is not None:
        return OutOfMemory(
            f"The process may take {format_size(limit)} of address space, which was not enough.",
            "Raise the limit (ulimit -v), or try again with a lower --memory.",
        )
    return OutOfMemory("The machine ran out of memory.", "Try again with a lower --memory.")


def as_json(error: RestoreError) -> dict[str, Any]:
    """Return an error as JSON, with messages for `with_flags`."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
