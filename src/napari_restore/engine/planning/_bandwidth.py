"""Bandwidth of the scratch disk and of the memory, measured before planning."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_restore._format import format_size
from napari_restore.engine.machine import MIB
from napari_restore.errors import DiskFull, is_disk_full, option

PROBE = 64 * MIB
_BLOCK = 4 * MIB
_LEAST = MIB
"""Least bytes of a meaningful probe."""
_COPIED = 16 * MIB


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second to and from a disk."""

    write_bytes_per_second: float
    read_bytes_per_second: float


_LOCK = threading.Lock()
_MEASURED: dict[int, Bandwidth] = {}
"""Device number of a file system → its measured bandwidth."""


def probe(folder: Path, size: int = PROBE) -> Bandwidth:
    """Return the bandwidth of the disk of `folder`.

    Writes `size` bytes, or half the free space where that is less, waits until they are on the
    disk, and reads them back, past the system's cache where it can be emptied (not on macOS and
    Windows, whose figure for reading is that of the cache). Measured once per file system in a
    process. Raises `DiskFull` where not even 1 MiB can be written.
    """
    with _LOCK:
        disk = folder.stat().st_dev
        if disk not in _MEASURED:
            _MEASURED[disk] = _measure(folder, size)
        return _MEASURED[disk]


@functools.cache
def ram_bandwidth() -> float:
    """Return bytes per second that one thread copies in memory: the best of three times 16 MiB."""
    source = np.ones(_COPIED, np.uint8)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - begun)
    return _COPIED / max(min(seconds), 1e-9)


def _measure(folder: Path, size: int) -> Bandwidth:
    """Measure the disk, with half the size again and again.

    A quota may allow less than what is free.
    """
    size = min(size, shutil.disk_usage(folder).free // 2)
    while size >= _LEAST:
        try:
            return _write_and_read(folder, size)
        except OSError as error:
            if not is_disk_full(error):
                raise
            size //= 2
    raise DiskFull(
        f"There is no space in {folder} to measure how fast it is ({format_size(_LEAST)}).",
        f"Free some, point {option('scratch')} elsewhere, "
        f"or use {option('residuals', 'ram', 'recompute')}.",
    )


def _write_and_read(folder: Path, size: int) -> Bandwidth:
    # Random bytes: a file system that compresses must not appear faster than it is.
    block = np.random.default_rng(0).integers(0, 256, min(_BLOCK, size), np.uint8)
    with tempfile.TemporaryFile(dir=folder, prefix="bandwidth.", buffering=0) as file:
        begun = time.perf_counter()
        written = 0
        while written < size:
            written += file.write(block.data[: size - written])
        os.fsync(file.fileno())
        writing = time.perf_counter() - begun
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begun = time.perf_counter()
        while file.readinto(block.data):
            pass
        reading = time.perf_counter() - begun
    return Bandwidth(size / max(writing, 1e-9), size / max(reading, 1e-9))
