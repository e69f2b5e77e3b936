"""The heap of the C library: what freed memory is kept for the next tile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def use_one_heap() -> bool:
    """Ask glibc to give all threads one heap; to be called before the first of them begins.

    Threads that have a heap of their own map and unmap every large block, whatever
    `keep_freed_memory` asks for. False where the C library is another.
    """
    return _set((ARENA_MAX, 1))


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks instead of returning each to the system.

    A tile frees and allocates the same large tensors again and again; without this every one of
    them is paged in again. One arena for all threads keeps freed blocks in one heap: with one each,
    workers used up to 2.4 times as much (`use_one_heap`: later it has no effect on threads that
    have one). The top is not trimmed either: near the end of a budget `PeakMemory` releases it. False
    where the C library is another. See docs/decisions/0003-threads-and-child.md.
    """
    return _set_thresholds(1 << 30, NEVER)


def return_freed_memory() -> bool:
    """Ask glibc to return every large freed block, until `keep_freed_memory`.

    For one-off work: its tensors are of all sizes, and the gaps between them would take as much
    again. False where the C library is another.
    """
    return _set_thresholds(1 << 20, 1 << 20)


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Return freed memory to the system inside the block; then keep it again."""
    return_freed_memory()
    try:
        yield
    finally:
        keep_freed_memory()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory inside the block; then return it to the system, and what is freed later."""
    keep_freed_memory()
    try:
        yield
    finally:
        return_freed_memory()
        release_freed_memory()


def release_freed_memory() -> None:
    """Return freed blocks to the system where the C library supports it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1
NEVER = -1
"""As threshold for trimming: the top of the heap is kept."""


def _set_thresholds(mapped: int, trimmed: int) -> bool:
    """Set the least size of blocks mapped on their own, and the bytes kept free at the top."""
    return _set((MMAP_THRESHOLD, mapped), (TRIM_THRESHOLD, trimmed), (ARENA_MAX, 1))


def _set(*settings: tuple[int, int]) -> bool:
    """Give glibc's `mallopt` each of the settings (M_… of malloc.h and a value)."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        return all(libc.mallopt(name, value) for name, value in settings)
    except (OSError, AttributeError):
        return False
