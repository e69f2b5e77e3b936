"""Memory budgets: how much a run may add to the process, and how much it added."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_restore._confined import SHARE, available_memory
from napari_restore._heap import release_freed_memory
from napari_restore.errors import BadParameter

MIB = 1 << 20
GIB = 1 << 30
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": MIB, "gib": GIB, "tib": 1 << 40}
_DECIMAL = {"k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}


def parse_size(text: str | int | float) -> int:
    """Return bytes of ``"1.5GiB"``, ``"512 MiB"``, ``"800MB"`` or a plain number."""
    if isinstance(text, (int, float)):
        number, unit = float(text), ""
    else:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
        try:
            number = float(match[1]) if match else -1.0
        except ValueError:
            number = -1.0
        unit = match[2].lower() if match else "?"
    factor = _UNITS.get(unit) or _DECIMAL.get(unit)
    if factor is None or number <= 0:
        raise BadParameter(f"{text!r} is no size.", "Write for instance 2GiB or 800MiB.")
    return int(number * factor)


def budget_of(memory: int | str | float | None) -> int:
    """Return the bytes of a budget as a user gives it; None: `default_memory`."""
    return default_memory() if memory is None else parse_size(memory)


def default_memory() -> int:
    """Return the budget when the user sets none: 60 % of the RAM, or address space (``ulimit -v``), now available."""
    return int(SHARE * available_memory())


def process_memory(children: bool = True) -> int:
    """Return the bytes that only this process (and its children) use, summed."""
    import psutil

    # On Linux memory without a file, which the kernel has counted; elsewhere the unique set size.
    process = psutil.Process()
    others = process.children(recursive=True) if children else []
    return sum(map(_own_memory, [process, *others]))


_COUNTED = re.compile(r"^Rss(?:Anon|Shmem):\s*(\d+) kB$", re.MULTILINE)


def _own_memory(process: Any) -> int:
    import psutil

    try:
        return _counted(process.pid) or int(process.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _counted(pid: int) -> int:
    """Return what the kernel says of a process in a hundredth of a millisecond; 0 where it does not."""
    with contextlib.suppress(OSError):
        counted = _COUNTED.findall(Path(f"/proc/{pid}/status").read_text())
        return sum(map(int, counted)) << 10
    return 0


class PeakMemory:
    """Peak memory of a run, sampled on a thread.

    `start` is `process_memory` at the beginning, `peak` the most so far; children are counted at the
    ends only. Where the kernel keeps no count, the growth of the resident size stands for it in
    between, as the exact figure walks the page tables.

    With `limit`, bytes that may be added, the gaps in the heap are returned to the system when the
    process comes near it.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.start = self.peak = process_memory()
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, process_memory())

    def _sample(self) -> None:
        import psutil

        process = psutil.Process()

        def size() -> int:
            return _counted(process.pid) or int(process.memory_info().rss)

        begun = size()
        quiet_until = 0.0
        while not self._stop.wait(_INTERVAL):
            now = size()
            self.peak = max(self.peak, self.start + now - begun)
            near = self._limit is not None and now - begun > NEAR * self._limit
            if near and time.monotonic() > quiet_until:
                release_freed_memory()
                quiet_until = time.monotonic() + _PAUSE


@contextlib.contextmanager
def peak_in(record: dict[str, Any]) -> Iterator[None]:
    """Count the memory used inside the block in `peak_ram_bytes` of `record`, once it has ended."""
    with PeakMemory() as memory:
        yield
    measured = record.setdefault("measured", {})
    measured["peak_ram_bytes"] = max(measured.get("peak_ram_bytes", 0), memory.peak)


NEAR = 0.95
"""Share of the limit from which on gaps in the heap are returned to the system."""
_INTERVAL = 0.02
"""Seconds between two samples."""
_PAUSE = 0.05
"""Seconds between two such returns: after each, pages must be faulted in again."""
