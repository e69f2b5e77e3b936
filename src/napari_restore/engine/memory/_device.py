"""The device a model runs on, and its number of threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_restore.engine.memory._budget import parse_size
from napari_restore.errors import BadParameter, option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "MALLOC_ARENA_MAX": "1"}
"""Environment variables to set before the OpenMP runtime loads: idle workers that spin slow
every neighbour (a window, a second tile) by up to ten times. And before there are threads: a
thread that has a heap of its own before `keep_freed_memory` keeps using it."""


@dataclass(frozen=True)
class Device:
    """A torch device and the reason why it was chosen."""

    name: str
    reason: str

    @property
    def torch(self) -> torch.device:
        import torch

        return torch.device("cpu" if self.is_simulated else self.name)

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def is_simulated(self) -> bool:
        return self.name.startswith(SIMULATED)

    @property
    def is_accelerator(self) -> bool:
        """Whether the device has memory of its own."""
        return self.name != "cpu"

    @property
    def capacity(self) -> int | None:
        """Bytes of a simulated device's memory."""
        return parse_size(self.name.removeprefix(SIMULATED)) if self.is_simulated else None

    def take(self, tensor: Tensor) -> Tensor:
        """Return `tensor` in the memory of this device; of a simulated one, a copy."""
        return tensor.clone() if self.is_simulated else tensor.to(self.torch)

    def wait(self) -> None:
        """Wait until all queued work of the device is done."""
        if self.is_cuda:
            import torch

            torch.cuda.synchronize(self.torch)

    def empty_cache(self) -> None:
        """Release the device memory that freed tensors still occupy."""
        if self.is_cuda:
            import torch

            torch.cuda.empty_cache()

    def free_bytes(self) -> int | None:
        """Return the bytes of its own memory that are free now; None where this is unknown."""
        if not self.is_cuda:
            return self.capacity
        import torch

        return int(torch.cuda.mem_get_info(self.torch)[0])


SIMULATED = "simulated:"
"""``simulated:6GiB`` computes on the processor as on a card with so much memory: its
tensors are counted, and one too many is out of memory. Shows what a card would do."""


def choose_device(wanted: str = "auto") -> Device:
    """Return the device named `wanted`.

    Names are ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ``simulated:6GiB``.
    """
    import torch

    if wanted.startswith(SIMULATED):
        parse_size(wanted.removeprefix(SIMULATED))
        return Device(wanted, "a card of this memory, played by the processor")

    if wanted == "auto":
        if torch.cuda.is_available():
            return Device("cuda", f"found {torch.cuda.get_device_name()}")
        return Device("cpu", "no CUDA device found")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError):
        raise BadParameter(
            f"Device {wanted!r} is not available here.",
            f"Use {option('device', 'auto')} or {option('device', 'cpu')}.",
        ) from None
    return Device(str(device), "chosen by the user")


def cores() -> int:
    """Return processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks instead of returning each to the system.

    A tile frees and allocates the same large tensors again and again; without this every one of
    them is paged in again. One arena for all threads keeps freed blocks in one heap: with one each,
    workers used up to 2.4 times as much. False where the C library is another. See
    docs/decisions/0003-threads-and-child.md.
    """
    return _set_heap(1 << 30, 1 << 27)


def return_freed_memory() -> bool:
    """Ask glibc to return every large freed block, until `keep_freed_memory`.

    For one-off work: its tensors are of all sizes, and the gaps between them would take as much
    again. False where the C library is another.
    """
    return _set_heap(1 << 20, 1 << 20)


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Return freed memory to the system inside the block; then keep it again."""
    return_freed_memory()
    try:
        yield
    finally:
        keep_freed_memory()


def _set_heap(mapped: int, trimmed: int) -> bool:
    """Set the least size of blocks mapped on their own, and the bytes kept free at the top."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((mmap_threshold, mapped), (trim_threshold, trimmed), (arena_max, 1))
        return all(libc.mallopt(name, value) for name, value in settings)
    except (OSError, AttributeError):
        return False


def release_freed_memory() -> None:
    """Return freed blocks to the system where the C library supports it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
