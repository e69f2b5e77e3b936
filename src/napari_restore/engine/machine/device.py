"""The device a model runs on, and its number of threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_restore._confined import confined
from napari_restore.engine.machine.budget import parse_size
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

    def confined(self) -> AbstractContextManager[None]:
        """Limit what computing on it may take of the process, as `confined` does; not its own memory."""
        return nullcontext() if self.is_accelerator else confined()

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
    """Return the device named ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``simulated:6GiB``."""
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


_assumed_cores: int | None = None


def cores() -> int:
    """Return processor cores this process may use."""
    if _assumed_cores is not None:
        return _assumed_cores
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def assume_cores(count: int | None) -> None:
    """Let `cores` be `count`, until this is called with None."""
    global _assumed_cores
    _assumed_cores = count
