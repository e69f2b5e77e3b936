"""Work on the files of strangers within limits: of addresses, of time, and until it is cancelled."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
SHARE = 0.6
"""Share of the memory now available that is used where nobody says how much."""
_SPARE = (256 << 20) + (os.cpu_count() or 1) * (16 << 20)
"""Bytes of addresses that threads and libraries reserve beside what they use."""
UNSAID = 1 << 30
"""Most bytes for what is tried before anybody has said how much it may take."""
_LOOK = 0.1
"""Seconds between two looks whether work is still wanted."""
CANCELLED: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)
"""Set when nobody waits for this thread any more."""
_LIMITS = sys.platform == "linux"
"""Whether the system holds a limit of addresses; macOS takes one and does not."""
_lock = threading.RLock()
_rooms: list[int] = []
_inside: list[int] = []
"""Limits of those who are confined now."""
_own: tuple[int, int] = (-1, -1)
"""Soft and hard limit of the process itself, while others hold."""


def available_memory() -> int:
    """Return the bytes that are free on this machine, and within the limit of this process."""
    import psutil

    available = int(psutil.virtual_memory().available)
    if not hasattr(psutil, "RLIMIT_AS"):
        return available
    process = psutil.Process()
    with _lock:
        limit = _own[0] if _inside else process.rlimit(psutil.RLIMIT_AS)[0]
    if limit < 0:
        return available
    return max(1 << 20, min(available, limit - int(process.memory_info().vms)))


@contextlib.contextmanager
def room_for(memory: int) -> Iterator[None]:
    """Let what is confined in this process take `memory` bytes, within ``with``; of several the most."""
    with _lock:
        _rooms.append(memory)
    try:
        yield
    finally:
        with _lock:
            _rooms.remove(memory)


def room() -> int:
    """Return the bytes that confined work may add to the process."""
    with _lock:
        most = max(_rooms, default=0)
    return most or min(UNSAID, int(SHARE * available_memory()))


@contextlib.contextmanager
def confined(more: int = 0) -> Iterator[None]:
    """Let the process map no more than it has, its `room` and `more` bytes, within ``with``.

    An allocation beyond fails as one without memory. The limit is that of all threads: of several the
    highest holds. Nothing happens where the system holds none.
    """
    if not _LIMITS:
        yield
        return
    import resource

    import psutil

    global _own
    limit = psutil.Process().memory_info().vms + room() + more + _SPARE
    with _lock:
        if not _inside:
            _own = resource.getrlimit(resource.RLIMIT_AS)
        _inside.append(limit)
        _limit()
    try:
        yield
    finally:
        with _lock:
            _inside.remove(limit)
            _limit()


@contextlib.contextmanager
def unconfined() -> Iterator[None]:
    """Give the process its own limits, within ``with``: for children, which would keep the others."""
    with _lock:
        held, _inside[:] = _inside[:], []
        if held:
            _limit()
        try:
            yield
        finally:
            _inside[:] = held
            if held:
                _limit()


def _limit() -> None:
    import resource

    soft, hard = _own
    wanted = [max(_inside, default=-1), *(each for each in (soft, hard) if each >= 0)]
    limit = min(each for each in wanted if each >= 0) if _inside else soft
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _check_cancelled() -> None:
    cancelled = CANCELLED.get()
    if cancelled is not None and cancelled.is_set():
        raise TimeoutError("nobody waits for it any more")


def awaited(
    work: Callable[[], T],
    seconds: float,
    stop: Callable[[], Any] = lambda: None,
    *,
    check: Callable[[], Any] = _check_cancelled,
) -> T:
    """Return what `work` returns on a thread of its own; its errors are raised here.

    A signal is answered at once, and what `check` raises, by default where `CANCELLED` of this
    thread is set: `stop` is called, and the work left alone, which may be in a library that hears
    nothing. Raises `TimeoutError` after `seconds`, in which time in which the process stood still
    counts little.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="awaited", daemon=True).start()
    try:
        left = round(seconds / _LOOK)
        while not wait([future], _LOOK).done:
            left -= 1
            check()
            if left < 0:
                raise TimeoutError(f"it is not done after {seconds:.0f} seconds")
    except BaseException:
        stop()
        raise
    return future.result()
