"""Copies between a device and host memory that run beside its computations."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_IN_FLIGHT = 4
"""Copies to the host that may be pending: each keeps its source on the device until it is done."""


class Pending:
    """A pending copy."""

    def __init__(self, event: torch.cuda.Event | None = None) -> None:
        self._event = event

    def wait(self) -> None:
        """Wait until the copy is done."""
        if self._event is not None:
            self._event.synchronize()


class Transfer:
    """Copies to and from `device` on a stream of their own.

    On CUDA a copy waits for the work queued so far on the calling thread's current stream, and for
    nothing after it. So `out` is to be called where the stream that made the tensor is current:
    PyTorch's default stream, unless another was set. Copies overlap with computations only from and
    to pinned memory (`pinned`). On other devices all copies are done at once. Threads may share it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._under_way: deque[Pending] = deque()
        self._lock = threading.Lock()

    def out(self, source: Tensor, target: Tensor) -> Pending:
        """Copy `source` to the host tensor `target` of the same shape, in `target`'s dtype.

        `source` may be freed at once, but not be overwritten before ``wait()``; nor may `target` be
        read before.
        """
        if self._stream is None or not source.is_cuda:
            target.copy_(source)
            return Pending()
        with self._lock:
            while len(self._under_way) >= _IN_FLIGHT:
                self._under_way.popleft().wait()
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                # Converted here, so that only the stored bytes cross the bus and the temporary
                # belongs to this stream.
                ready = source.to(target.dtype).contiguous()
                target.copy_(ready, non_blocking=True)
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                done.record(self._stream)
            # The allocator must not reuse the source's memory before the copy is done.
            source.record_stream(self._stream)
            pending = Pending(done)
            self._under_way.append(pending)
        return pending

    def into(self, sources: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return copies of the host tensors `sources` on the device, complete on return.

        The caller's thread waits for the copy, the device's other streams do not: read ahead on a
        thread of your own and the copies lie beside the computations. The copies share no memory
        with `sources`.
        """
        if self._stream is None:
            return tuple(source.to(self.device, copy=True) for source in sources)
        consumer = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            copies = tuple(source.to(self.device, non_blocking=True) for source in sources)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)
        # They were allocated on the copying stream, which may reuse their memory only after the
        # consumer's work on them.
        for copy in copies:
            copy.record_stream(consumer)
        done.synchronize()
        return copies

    def wait(self) -> None:
        """Wait until every copy begun by `out` is done."""
        with self._lock:
            while self._under_way:
                self._under_way.popleft().wait()


def pinned(host: Tensor) -> Callable[[], None]:
    """Lock the memory of `host` for copies of CUDA; return the function that unlocks it.

    PyTorch's own pinned allocations are rounded up to a power of two, up to twice the planned
    memory; locking an ordinary one keeps its exact size. Where the system refuses, copies are right
    but do not overlap. Keep `host` until unlocked.
    """
    if host.nbytes == 0:
        return _nothing
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = host.data_ptr()
    if int(runtime.cudaHostRegister(address, host.nbytes, 0)) != 0:
        # The runtime stores the refusal, and the next kernel would raise it as its own.
        with contextlib.suppress(RuntimeError):
            torch.ones(1, device="cuda")
        return _nothing

    def unlock() -> None:
        runtime.cudaHostUnregister(address)

    return unlock


def _nothing() -> None:
    """Do nothing: there is nothing to unlock."""
