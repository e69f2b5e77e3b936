"""Layout of a run of sweeps: its grid, a static split of its maps over the budgets, and its network.

"map" and "tier" are words of docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from napari_restore._format import format_size
from napari_restore.engine.ledger.map_records import FILE
from napari_restore.engine.ledger.slab import Slots
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.planning.decided import Recompute, SweptLayout
from napari_restore.engine.planning.tiles import TOKEN_BYTES, Grid, count_bytes
from napari_restore.errors import BadParameter, BudgetTooSmall, DiskFull, option
from napari_restore.models import Map, Steps, SweptModel

TIERS = ("auto", "device", "ram", "disk", "recompute-first", "recompute")
RAM_BYTES_PER_SECOND = 4e9
"""Of one thread that copies maps in memory …"""
DISK_BYTES_PER_SECOND = 400e6
"""… and of a usual SSD: they say where maps are made again rather than kept."""


@dataclass(frozen=True)
class Group:
    """Maps that one sweep writes, with the same last reader and floats."""

    maps: tuple[Map, ...]
    first: int
    """The step that writes them."""
    last: int
    """The last step that reads them."""
    readers: int
    """Steps that read them."""
    file: str
    everywhere: bool
    """Whether they are read on all tiles, not only around the target."""


def groups_of(steps: Steps) -> Iterator[Group]:
    """Yield the maps that lie on tiers; those of a `WholeStep` are kept otherwise."""
    number = 0
    for first, sweep in steps.sweeps.items():
        together: dict[tuple[int, str | None], list[Map]] = {}
        for each in sweep.writes:
            readers = steps.readers(each.name)
            if readers and each.name not in steps.whole_maps:
                together.setdefault((readers[-1], each.dtype), []).append(each)
        for (last, _), maps in together.items():
            reading = [steps.readers(each.name) for each in maps]
            yield Group(
                tuple(maps),
                first,
                last,
                max(len(numbers) for numbers in reading),
                FILE if number == 0 else f"residuals.{number}.slab",
                any(numbers != [len(steps) - 1] for numbers in reading),
            )
            number += 1


@dataclass(frozen=True)
class Demand:
    """Input of `split`: tiles to read, and what they take."""

    tiles: int
    stage_bytes: tuple[int, ...]
    """Bytes of one tile by map, fine to coarse."""
    encode_seconds: float
    first_seconds: float | None
    """Of the first map alone; None where it cannot be recomputed alone."""
    decode_seconds: float
    """Per tile, all workers together."""
    again_seconds: float
    """Of recomputing all maps of a tile wherever they are read."""


@dataclass(frozen=True)
class Room:
    """Bytes free for maps on each tier."""

    has_device: bool
    device: int
    ram: int
    disk: Callable[[], int]
    """Called only where the disk may be needed: it is measured."""

    def without(self, taken: Mapping[str, int]) -> Room:
        """Return what is left beside `taken` bytes by tier."""
        device, ram = self.device - taken["device"], self.ram - taken["ram"]
        return replace(self, device=device, ram=ram, disk=lambda: self.disk() - taken["disk"])


@dataclass(frozen=True)
class Split:
    """Assignment of maps to tiers, and the resulting time of encoding and decoding."""

    slots: Slots
    recompute: Recompute
    record_bytes: int
    encode_seconds: float
    decode_seconds: float


def batch_of(long_side: int) -> int:
    """Return the tiles at once by the image's long side in pixels, as in Inf-Dehaze's supplement."""
    # It names 1 below 1024, 4 up to 4096 and 16 above 8192; 8 lies between.
    for limit, batch in ((1024, 1), (4097, 4), (8192, 8)):
        if long_side < limit:
            return batch
    return 16


def split(demand: Demand, room: Room, wanted: str) -> Split:
    """Return the fastest way to provide the maps of all tiles for decoding.

    Kept maps fill the device, then RAM, then the disk, in the order of encoding; tiles that do
    not fit are encoded twice. Copies run beside the computing, so a phase takes the longer of the
    two. The order of use is known beforehand, so this is decided once and nothing is ever evicted.
    `wanted` is one of `TIERS`; a named tier that has too little room raises `BudgetTooSmall` or
    `DiskFull`.
    """
    if wanted not in TIERS:
        raise BadParameter(f"There is no tier {wanted!r}.", f"Choose among {', '.join(TIERS)}.")
    first: tuple[Recompute, ...] = () if demand.first_seconds is None else ("first",)
    tried: dict[str, tuple[Recompute, ...]] = {
        "auto": ("none", *first),
        "recompute": (),
        "recompute-first": first or ("none",),
    }
    ways: list[Split] = []
    for recompute in tried.get(wanted, ("none",)):
        ways += _kept(demand, room, wanted, recompute)
    if wanted in ("auto", "recompute"):
        seconds = demand.decode_seconds + demand.again_seconds
        nothing = Slots(0, 0, 0)
        ways.append(
            Split(nothing, "all", 0, demand.tiles * demand.encode_seconds, demand.tiles * seconds)
        )
    return min(ways, key=lambda way: way.encode_seconds + way.decode_seconds)


def _kept(demand: Demand, room: Room, wanted: str, recompute: Recompute) -> list[Split]:
    """Return the ways to keep maps that are not recomputed: in memory alone, and on the disk as well."""
    record = sum(demand.stage_bytes[1:] if recompute == "first" else demand.stage_bytes)
    tiles = demand.tiles
    if record == 0:
        # Nothing is left to keep.
        return [_timed(demand, Slots(0, 0, 0), recompute, 0)]

    def fit(size: int) -> int:
        return max(0, min(tiles, size // record))

    free = wanted in ("auto", "recompute-first")
    device = fit(room.device) if free or wanted == "device" else 0
    ram = min(tiles - device, fit(room.ram)) if free or wanted == "ram" else 0
    ways = [_timed(demand, Slots(device, ram, 0), recompute, record)]
    if wanted in ("device", "ram"):
        _check_fit(device + ram, demand, room, wanted, record)
    elif device + ram < tiles:
        disk = min(tiles - device - ram, fit(room.disk()))
        if wanted == "disk" and disk < tiles:
            raise DiskFull(
                f"The residuals take {format_size(tiles * record)}, more than the scratch disk has.",
                f"Point {option('scratch')} to another disk, or use {option('residuals', 'auto')}.",
            )
        with_disk = _timed(demand, Slots(device, ram, disk), recompute, record)
        ways = [with_disk] if wanted == "disk" else [*ways, with_disk]
    return ways


def _check_fit(stored: int, demand: Demand, room: Room, wanted: str, record: int) -> None:
    if stored < demand.tiles:
        if wanted == "device" and not room.has_device:
            raise BadParameter(
                "The processor has no memory of its own for residuals.",
                f"Use {option('residuals', 'ram')}, or {option('device')} to name a GPU.",
            )
        raise BudgetTooSmall(
            f"The residuals take {format_size(demand.tiles * record)}, "
            f"the budget leaves {format_size(stored * record)} for them.",
            f"Raise {option('device_memory' if wanted == 'device' else 'memory')}, "
            f"or use {option('residuals', 'auto')}.",
        )


def _timed(demand: Demand, slots: Slots, recompute: Recompute, record: int) -> Split:
    stored, again = slots.total, demand.tiles - slots.total
    stored_seconds = slots.ram * record / RAM_BYTES_PER_SECOND
    stored_seconds += slots.disk * record / DISK_BYTES_PER_SECOND
    encode = demand.tiles * demand.encode_seconds
    decode = demand.tiles * demand.decode_seconds + again * demand.again_seconds
    if recompute == "first":
        assert demand.first_seconds is not None
        decode += stored * demand.first_seconds
    return Split(slots, recompute, record, max(encode, stored_seconds), max(decode, stored_seconds))


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes of a run of sweeps that go over the network, beside those of the image."""

    written: int
    read: int

    def note(self) -> str:
        """Return text for the user."""
        return (
            f"Workers write {format_size(self.written)} of maps and counts to the shared folder, "
            f"and {format_size(self.read)} are read from it."
        )


def network_bytes(layout: SweptLayout, model: SweptModel, tile: int) -> NetworkBytes:
    """Return the bytes that workers share in a run with tiles of `tile` pixels."""
    grid = Grid(layout.box, tile, model.padded_to)
    slots = {name: each for each in layout.maps for name in each.names}
    steps = model.ordered_steps
    # A reader takes its halo as well. The process that merges counts, and takes a map as a whole,
    # reads them once.
    written = sum(each.bytes["disk"] for each in layout.maps)
    read = 0.0
    for step in steps.sweeps.values():
        for name in step.reads:
            if name in slots:
                one, kept = steps.maps[name], slots[name]
                cells = ((tile + 2 * step.halo) / one.stride) ** 2
                read += kept.slots.disk * one.channels * cells * dtype_of(kept.dtype).itemsize
        if step.counts is not None and not layout.known:
            counted = grid.count * count_bytes(step.counts, grid)
            written, read = written + counted, read + counted
    if steps.whole is not None:
        tokens = layout.tokens * steps.whole.reads.channels * TOKEN_BYTES
        # The related ones are written once more, and decoding reads both.
        written, read = written + 2 * tokens, read + 3 * tokens
    return NetworkBytes(int(written), int(read))
