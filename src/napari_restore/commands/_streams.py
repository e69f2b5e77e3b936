"""The standard streams of the process: safe if closed or full, without output of C libraries."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from napari_restore.errors import escape_controls

status: Callable[[], None] | None = None
"""Clears the status line of a terminal; set by what draws one."""


def set_up() -> None:
    """Make the standard streams safe to use."""
    # The descriptor of a closed stream would be reused for the next file, and output of C libraries
    # would go into that file. libtiff prints errors past the handlers of GDAL, so the descriptor of
    # stderr is redirected to the null device and Python's stream uses a copy of it.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _redirect_to_null(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    else:
        copy = os.dup(2)
        encoding = sys.stderr.encoding
        sys.stderr = open(copy, "w", 1, encoding, "backslashreplace")
        _redirect_to_null(2)
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        # Not every terminal can show × or all file names.
        sys.stdout.reconfigure(errors="backslashreplace")


def write_out(text: str) -> OSError | None:
    """Write `text` and a newline to stdout; return the error if that failed."""
    # A closed pipe, as of `head`, is no error.
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        clear_status()
        if text:
            print(escape_controls(text, keep="\n"))
        sys.stdout.flush()
    except OSError as error:
        _flush_or_discard(sys.stdout)
        return None if isinstance(error, BrokenPipeError) else error
    return None


def write_error(sentence: str) -> None:
    """Write a line to stderr with control characters escaped; ignore write errors."""
    clear_status()
    try:
        print(f"napari-restore: {escape_controls(sentence)}", file=sys.stderr, flush=True)
    except OSError:
        _flush_or_discard(sys.stderr)


def clear_status() -> None:
    """Clear the status line, if one is drawn: what follows begins at its place."""
    if status is not None:
        status()


def stderr_number() -> int | None:
    """Return the descriptor of Python's stderr, for a child process; None where it has none."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def close() -> None:
    """Flush both; otherwise a failure would change the exit code when Python exits."""
    _flush_or_discard(sys.stdout)
    _flush_or_discard(sys.stderr)


def _flush_or_discard(stream: TextIO | None) -> None:
    with contextlib.suppress(OSError, ValueError):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            assert stream is not None
            _redirect_to_null(stream.fileno())
            stream.flush()


def _redirect_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
