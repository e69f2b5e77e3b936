"""The standard streams of the process: closed, full or gone, and free of what C libraries print."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TextIO

from napari_restore.errors import escape_controls


def set_up() -> None:
    """Make the streams of a process of our own safe to use.

    A closed one would give its number to the next file that is opened, and what a C library
    prints would go into that file. libtiff prints its failures past GDAL's handlers, so
    the file descriptor of stderr leads nowhere and Python's stream is a copy of it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _lead_nowhere(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    else:
        own = os.dup(2)
        encoding = sys.stderr.encoding
        sys.stderr = open(own, "w", 1, encoding, "backslashreplace")
        _lead_nowhere(2)
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        # Not every terminal has a letter for × or for the name of a file.
        sys.stdout.reconfigure(errors="backslashreplace")


def write_out(text: str) -> OSError | None:
    """Write `text` and a line's end to stdout; the error if that failed.

    A reader who has left, as `head` does, has what it wanted: that is no error.
    """
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if text:
            print(escape_controls(text, keep="\n"))
        sys.stdout.flush()
    except OSError as error:
        _flush_or_discard(sys.stdout)
        return None if isinstance(error, BrokenPipeError) else error
    return None


def write_error(sentence: str) -> None:
    """Write a line to stderr, control characters escaped; silent where nobody can read it."""
    try:
        print(f"napari-restore: {escape_controls(sentence)}", file=sys.stderr, flush=True)
    except OSError:
        _flush_or_discard(sys.stderr)


def stderr_number() -> int | None:
    """The descriptor of Python's stderr, for a child process; None where it has none."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def close() -> None:
    """Flush both; what fails then would be complained of, in Python's own exit code, at its end."""
    _flush_or_discard(sys.stdout)
    _flush_or_discard(sys.stderr)


def _flush_or_discard(stream: TextIO | None) -> None:
    with contextlib.suppress(OSError, ValueError):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            assert stream is not None
            _lead_nowhere(stream.fileno())
            stream.flush()


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
