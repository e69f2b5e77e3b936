"""Residuals of the encoder for the decoder, stored on the device, in RAM or on disk."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_restore._format import format_size
from napari_restore.engine.ledger.shared_slabs import OpenSlab
from napari_restore.engine.ledger.slab import Bytes, SlabFile, Slots, key_of
from napari_restore.errors import OutOfMemory, option

Shape = tuple[int, int, int]
FILE = "residuals.slab"


class ResidualStore:
    """Maps of a model's tiles, written by one sweep, read by later ones.

    `shapes` are the (C, h, w) of one tile's maps, kept in `dtype`; slot i is the i-th tile
    encoded. RAM and device have one slab each, allocated here, of exactly ``slots.ram`` and
    ``slots.device`` tiles; with a CUDA `device` the slab in RAM is pinned. The disk's tiles lie in
    a `SlabFile` at `path` and are found again when the store is opened with the same `key`,
    `shapes`, `dtype` and `slots` (see `earlier_slots`). With `disk_only` nothing is kept in RAM or
    on the device. Raises `OutOfMemory` or `DiskFull`.

    Threads may call `put` and `get` at the same time. With CUDA both are to be called where the
    stream of the computations is current, as in `Transfer`.
    """

    def __init__(
        self,
        path: Path,
        shapes: tuple[Shape, ...],
        dtype: torch.dtype,
        slots: Slots,
        *,
        key: str,
        device: torch.device | None = None,
        disk_only: bool = False,
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.slots = slots
        self.device = torch.device("cpu") if device is None else device
        self._sizes = [math.prod(shape) for shape in shapes]
        self.record_bytes = sum(self._sizes) * dtype.itemsize
        """Bytes of one tile's maps."""
        self._transfer = Transfer(self.device)
        self._there: set[int] = set()
        self._slabs_lock, self._writing, self._reading = (threading.Lock() for _ in range(3))
        self._unlock: list[Callable[[], None]] = []
        self._staging: dict[str, Tensor] = {}
        self._slabs: dict[str, Tensor] = {}
        self._disk: SlabFile | None = None
        if slots.disk:
            full_key = _full_key(key, shapes, dtype, slots)
            self._disk = open_slab(
                path,
                self.record_bytes,
                slots.disk,
                key=full_key,
                what="residuals",
                parts=[size * dtype.itemsize for size in self._sizes],
            )
        try:
            if not disk_only:
                self._slabs["device"] = self._allocate(slots.device, self.device)
                self._slabs["ram"] = self._allocate(slots.ram, torch.device("cpu"))
        except OutOfMemory:
            self.close()
            raise

    # -- put and get -------------------------------------------------------------

    def put(self, slot: int, maps: Sequence[Tensor]) -> None:
        """Keep `maps`, (C, h, w) each, of any float dtype, layout and device.

        They may be freed at once, but on CUDA not be overwritten before the next `get`. A slot
        beyond all tiers is ignored. Raises `DiskFull`.
        """
        tier = self.slots.of(slot)
        if tier is None or (tier != "disk" and tier not in self._slabs):
            return
        actual = tuple(tuple(tensor.shape) for tensor in maps)
        if actual != self.shapes:
            raise ValueError(f"residuals of {actual} instead of {self.shapes}")
        if tier == "disk":
            self._put_on_disk(slot, maps)
            return
        with self._slabs_lock:
            self._there.discard(slot)
            for target, tensor in zip(self._parts(tier, slot), maps, strict=True):
                if tier == "device":
                    target.copy_(tensor)
                else:
                    self._transfer.out(tensor, target)
            self._there.add(slot)

    def has(self, slot: int) -> bool:
        """Return whether `slot` was put, in this process or on disk by an earlier one."""
        if self.slots.of(slot) == "disk":
            return self._disk is not None and self._disk.has(self._record(slot))
        return slot in self._there

    def get(self, slot: int, which: Sequence[int] | None = None) -> tuple[Tensor, ...] | None:
        """Return the maps of `slot`, (C, h, w) each, in `dtype` on `device`, the caller's own.

        Those of the numbers `which`, in that order; None: all. Returns None if they were not kept
        or are damaged: the caller encodes the tile again.
        """
        tier = self.slots.of(slot)
        if tier is None:
            return None
        if tier == "disk":
            return self._get_from_disk(slot, which)
        with self._slabs_lock:
            if slot not in self._there:
                return None
            self._transfer.wait()
            parts = self._parts(tier, slot)
            if which is not None:
                parts = tuple(parts[number] for number in which)
            if tier == "device":
                return tuple(part.clone() for part in parts)
            return self._transfer.into(parts)

    # -- figures -----------------------------------------------------------------

    def bytes_by_tier(self) -> dict[str, int]:
        """Return bytes on ``"device"``, ``"ram"`` and ``"disk"``, slots still empty included."""
        sizes = {name: int(slab.nbytes) for name, slab in self._slabs.items()}
        disk = self._disk.nbytes if self._disk is not None else 0
        return {"device": sizes.get("device", 0), "ram": sizes.get("ram", 0), "disk": disk}

    # -- end ---------------------------------------------------------------------

    def close(self) -> None:
        """Release the memory; what lies on disk stays there."""
        self._transfer.wait()
        for unlock in self._unlock:
            unlock()
        self._unlock.clear()
        self._there.clear()
        self._slabs.clear()
        self._staging.clear()
        if self._disk is not None:
            self._disk.close()

    def remove(self) -> None:
        """Close, and delete what lies on disk."""
        self.close()
        if self._disk is not None:
            self._disk.remove()
            self._disk = None

    # -- memory ------------------------------------------------------------------

    def _allocate(self, count: int, device: torch.device) -> Tensor:
        """Return a slab (count, values of a record), pinned in RAM where the device is CUDA."""
        try:
            slab = torch.empty((count, sum(self._sizes)), dtype=self.dtype, device=device)
        except (MemoryError, RuntimeError) as error:
            where = "memory" if device.type == "cpu" else f"memory on {device}"
            raise OutOfMemory(
                f"There is not enough {where} for {format_size(count * self.record_bytes)}"
                " of residuals.",
                f"Use a lower {option('memory')} or {option('device_memory')}, "
                f"or {option('residuals', 'disk', 'recompute')}.",
            ) from error
        if self.device.type == "cuda" and device.type == "cpu":
            self._unlock.append(pinned(slab))
        return slab

    def _parts(self, tier: str, slot: int) -> tuple[Tensor, ...]:
        first = 0 if tier == "device" else self.slots.device
        return self._split(self._slabs[tier][slot - first])

    def _split(self, record: Tensor) -> tuple[Tensor, ...]:
        """Return views (C, h, w) of the maps in a record of values."""
        parts = torch.split(record, self._sizes)
        return tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))

    # -- disk --------------------------------------------------------------------

    def _record(self, slot: int) -> int:
        return slot - self.slots.device - self.slots.ram

    def _put_on_disk(self, slot: int, maps: Sequence[Tensor]) -> None:
        assert self._disk is not None
        with self._writing:
            record = self._buffer("out")
            copies = [
                self._transfer.out(tensor, target)
                for target, tensor in zip(self._split(record), maps, strict=True)
            ]
            for wait in copies:
                wait()
            self._disk.put(self._record(slot), _as_bytes(record))

    def _get_from_disk(self, slot: int, which: Sequence[int] | None) -> tuple[Tensor, ...] | None:
        assert self._disk is not None
        if which is not None:
            return self._get_parts(self._disk, self._record(slot), which)
        if self.device.type == "cpu":
            # Read directly into the caller's tensors.
            record = torch.empty(sum(self._sizes), dtype=self.dtype)
            is_stored = self._disk.get(self._record(slot), _as_bytes(record)) is not None
            return self._split(record) if is_stored else None
        with self._reading:
            record = self._buffer("in")
            if self._disk.get(self._record(slot), _as_bytes(record)) is None:
                return None
            return self._transfer.into(self._split(record))

    def _get_parts(
        self, disk: SlabFile, record: int, which: Sequence[int]
    ) -> tuple[Tensor, ...] | None:
        parts = [torch.empty(self.shapes[number], dtype=self.dtype) for number in which]
        for number, part in zip(which, parts, strict=True):
            if not disk.get_part(record, number, _as_bytes(part.view(-1))):
                return None
        return tuple(part.to(self.device) for part in parts)

    def _buffer(self, way: str) -> Tensor:
        """Return one record in RAM that is reused, pinned for CUDA."""
        if way not in self._staging:
            self._staging[way] = self._allocate(1, torch.device("cpu"))[0]
        return self._staging[way]


def earlier_slots(
    folder: Path, shapes: tuple[Shape, ...], dtype: torch.dtype, *, key: str, file: str = FILE
) -> Slots | None:
    """Return the split of the store that an earlier run with this `key` left in `folder`."""
    # What lies on disk is found again only by a store with the same split.
    actual = (key_of(folder / file) or "").rpartition(" ")
    try:
        slots = Slots(*map(int, actual[2].split("+")))
    except (ValueError, TypeError):
        return None
    return slots if _full_key(key, shapes, dtype, slots) == "".join(actual) else None


def _full_key(key: str, shapes: tuple[Shape, ...], dtype: torch.dtype, slots: Slots) -> str:
    """Return everything that determines the values of a record, and their tile."""
    sizes = ",".join("x".join(map(str, shape)) for shape in shapes)
    return f"{key} {dtype} {sizes} {slots.device}+{slots.ram}+{slots.disk}"


def _as_bytes(record: Tensor) -> Bytes:
    values: Any = record.view(torch.uint8).numpy()
    return values  # type: ignore[no-any-return]


_IN_FLIGHT = 4
"""Copies to the host that may be pending: each keeps its source on the device until it is done."""


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
        self._under_way: deque[Callable[[], object]] = deque()
        """What waits for a copy to the host, by copy."""
        self._lock = threading.Lock()

    def out(self, source: Tensor, target: Tensor) -> Callable[[], object]:
        """Copy `source` to the host tensor `target` of the same shape, in `target`'s dtype.

        Returns what waits until that is done. `source` may be freed at once, but not be overwritten
        before; nor may `target` be read before.
        """
        if self._stream is None or not source.is_cuda:
            target.copy_(source)
            return _nothing
        with self._lock:
            while len(self._under_way) >= _IN_FLIGHT:
                self._under_way.popleft()()
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
            self._under_way.append(done.synchronize)
        return done.synchronize

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
                self._under_way.popleft()()


def pinned(host: Tensor) -> Callable[[], None]:
    """Lock the memory of `host` for copies of CUDA; return the function that unlocks it. Keep `host` until then."""
    if host.nbytes == 0:
        return _nothing
    # PyTorch's own pinned allocations are rounded up to a power of two, up to twice the planned
    # memory; locking an ordinary one keeps its exact size. Where the system refuses, copies are
    # right but do not overlap.
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
    """Do nothing: there is nothing to unlock, or to wait for."""
