"""Freed memory of this process: what the C library keeps, and how often Python looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def use_one_heap() -> bool:
    """Ask glibc, before any thread begins, to give all one heap; False where the C library is another."""
    # Threads that have a heap of their own map and unmap every large block, whatever
    # `keep_freed_memory` asks for.
    return _call("mallopt", ARENA_MAX, 1)


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks instead of returning each; False where the C library is another."""
    # A tile frees and allocates the same large tensors again and again; without this every one of
    # them is paged in again. One arena for all threads keeps freed blocks in one heap: with one
    # each, workers used up to 2.4 times as much (`use_one_heap`: later it has no effect on threads
    # that have one). The top is not trimmed either: near the end of a budget `PeakMemory` releases
    # it. See docs/decisions/0003-threads-and-child.md.
    return _set_thresholds(1 << 30, NEVER)


def return_freed_memory() -> bool:
    """Ask glibc to return every large freed block, until `keep_freed_memory`; False where it is another."""
    # For one-off work: its tensors are of all sizes, and the gaps between them would take as much
    # again.
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
    _call("malloc_trim", 0)


ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1
NEVER = -1
"""As threshold for trimming: the top of the heap is kept."""


def _set_thresholds(mapped: int, trimmed: int) -> bool:
    """Set the least size of blocks mapped on their own, and the bytes kept free at the top."""
    settings = (MMAP_THRESHOLD, mapped), (TRIM_THRESHOLD, trimmed), (ARENA_MAX, 1)
    return all(_call("mallopt", *setting) for setting in settings)


def _call(name: str, *arguments: int) -> bool:
    """Call a function of glibc; return whether there is one, and it succeeded."""
    import ctypes

    try:
        return bool(getattr(ctypes.CDLL("libc.so.6"), name)(*arguments))
    except (OSError, AttributeError):
        return False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect no garbage inside the block; outside, the collector is as it was."""
    # For imports that leave hundreds of thousands of objects: every collection looks at all of
    # them, a tenth of the time that importing torch takes.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


SELDOM = 100_000
"""Objects after which garbage is collected, while a command starts."""
_usual: tuple[int, int, int] | None = None


def collect_seldom() -> None:
    """Collect hardly any garbage in this process until `collect_as_usual`."""
    # For the start of a program that ends soon: it was a fifth of the time of a small photo.
    global _usual
    _usual = gc.get_threshold()
    gc.set_threshold(SELDOM, *_usual[1:])


def collect_as_usual() -> None:
    """Collect garbage as Python does, but never what exists by now: libraries and a model."""
    # To be called before long work, whose garbage may be large. Nothing where `collect_seldom` was
    # not called.
    global _usual
    if _usual is not None:
        gc.freeze()
        gc.set_threshold(*_usual)
        _usual = None
