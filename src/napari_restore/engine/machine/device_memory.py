"""Counters of the bytes that tensors take on a device, optionally with a limit."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from napari_restore._format import format_size
from napari_restore.engine.machine.device import Device


class DeviceMemory:
    """Device memory of one run: measured on CUDA, counted on a simulated device."""

    # Every thread that computes does so within `watched()`. A simulated device raises
    # `torch.OutOfMemoryError` where a real card of its size would.
    def __init__(self, device: Device, initial: int = 0) -> None:
        self._device = device
        self._count = TensorCount(device.capacity, initial)
        if device.is_cuda:
            # Blocks that earlier work left in the allocator's cache are not of this run.
            device.empty_cache()
            torch.cuda.reset_peak_memory_stats(device.torch)

    def watched(self) -> AbstractContextManager[object]:
        """Return a context in which the tensors that this thread makes are counted."""
        return self._count.mode() if self._device.is_simulated else contextlib.nullcontext()

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count `size` bytes that lie on the device inside the block."""
        self._count.take(size)
        try:
            yield
        finally:
            self._count.take(-size)

    @property
    def peak(self) -> int:
        """The most bytes allocated at the same time so far; 0 on the processor."""
        if self._device.is_cuda:
            return torch.cuda.max_memory_reserved(self._device.torch)
        return self._count.peak if self._device.is_simulated else 0


def peak_of(call: Callable[[], object], device: Device) -> float:
    """Return the peak bytes `call` adds to `device`; counted on the processor."""
    if device.is_cuda:
        torch.cuda.reset_peak_memory_stats(device.torch)
        before = torch.cuda.memory_allocated(device.torch)
        call()
        return float(torch.cuda.max_memory_allocated(device.torch) - before)
    count = TensorCount()
    with count.mode():
        call()
    return float(count.peak)


class TensorCount:
    """Sum of the storages that operations create, in any number of threads, and of `initial` bytes."""

    # Resident memory would be the direct measure, but a window, a reader or the allocator's own
    # reserves move it; this counts only what tensors allocate.
    def __init__(self, limit: int | None = None, initial: int = 0) -> None:
        self.alive = self.peak = initial
        self._limit = limit
        self._lock = threading.Lock()
        self._storages: set[int] = set()

    def mode(self) -> AbstractContextManager[object]:
        """Return a context in which the calling thread's new storages are counted."""
        return _Counting(self)

    def take(self, size: int) -> None:
        """Count bytes that no watched operation allocated; a negative `size` removes them."""
        with self._lock:
            self.alive += size
            self.peak = max(self.peak, self.alive)

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count `storage` until it is freed; raises `torch.OutOfMemoryError` over the limit."""
        key, size = storage._cdata, storage.nbytes()
        with self._lock:
            if key in self._storages:
                return
            if self._limit is not None and self.alive + size > self._limit:
                raise torch.OutOfMemoryError(
                    f"simulated device out of memory: {format_size(size)} more than "
                    f"{format_size(self.alive)} of {format_size(self._limit)}"
                )
            self._storages.add(key)
            self.alive += size
            self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        with self._lock:
            self._storages.discard(key)
            self.alive -= size


class _Counting(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch loads its compiler, 0.7 s and 900 modules, to leave this out of it.
        return False

    def __init__(self, count: TensorCount) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = count

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count.add(tensor.untyped_storage())
        return result
