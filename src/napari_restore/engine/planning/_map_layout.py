"""Layout of a run of sweeps: its grid, a static split of its maps over the budgets, and its network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from napari_restore._format import format_seconds, format_size
from napari_restore.engine._region import Region
from napari_restore.engine.ledger import FILE, Slots
from napari_restore.engine.machine import dtype_of
from napari_restore.engine.planning._bandwidth import Bandwidth
from napari_restore.engine.planning._tiles import TOKEN_BYTES, Grid, count_bytes
from napari_restore.errors import BadParameter, BudgetTooSmall, DiskFull, option
from napari_restore.models import Map, Steps, SweptModel

TIERS = ("auto", "device", "ram", "disk", "recompute-first", "recompute")
Recompute = Literal["none", "first", "all"]
"""Residuals that are recomputed for decoding instead of being kept."""
MOST_PHASES = 6
"""Most phases that are named to the user."""


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
class StoredMaps:
    """Maps that one sweep leaves, with the same last reader: where they lie."""

    names: tuple[str, ...]
    """Those that are kept."""
    again: tuple[str, ...]
    """Those that are recomputed whenever they are read."""
    file: str
    dtype: str
    slots: Slots
    """Tiles whose maps are kept, by tier; those of the others are recomputed."""
    record_bytes: int
    """Bytes kept of one tile."""
    tiles: int
    """Tiles whose maps are read."""
    everywhere: bool
    """Whether that is all tiles, not only those of the target and around."""
    first: int
    """The step that writes them."""
    last: int
    """The step after which they are freed."""

    @property
    def bytes(self) -> dict[str, int]:
        """Kept bytes by tier."""
        stored = {"device": self.slots.device, "ram": self.slots.ram, "disk": self.slots.disk}
        return {tier: tiles * self.record_bytes for tier, tiles in stored.items()}

    @property
    def is_complete(self) -> bool:
        """Whether nothing of them is recomputed."""
        return not self.again and self.slots.total >= self.tiles


def bytes_at_peak(
    maps: Sequence[StoredMaps], first: int = 0, last: int = 1 << 30
) -> dict[str, int]:
    """Return the most bytes by tier that maps take at once during the steps `first` to `last`."""
    most = dict.fromkeys(("device", "ram", "disk"), 0)
    begins = {first} | {each.first for each in maps if first <= each.first <= last}
    for step in begins:
        alive = [each for each in maps if each.first <= step <= each.last]
        for tier in most:
            most[tier] = max(most[tier], sum(each.bytes[tier] for each in alive))
    return most


@dataclass(frozen=True)
class SweptLayout:
    """The part of a plan that only swept models have. Sizes in bytes, times in seconds."""

    box: Region
    """Level-0 pixels that sweeps go over; tiles begin at their corner. All that the model sees, but
    of an area whose statistics are `known` only what that depends on."""
    rows: int
    columns: int
    """Tiles of the grid."""
    tokens: int
    """Cells of the map that is taken as a whole; 0: there is none."""
    decoded: int
    """Tiles that are restored."""
    maps: tuple[StoredMaps, ...]
    precision: str
    residual_dtype: str
    bottleneck_on_host: bool
    """Whether the whole map does not fit the device, so that its step runs on the processor."""
    ram_bytes: int
    device_bytes: int
    disk_bytes: int
    phase_seconds: dict[str, float]
    """Predicted seconds by the names of the steps, in their order."""
    whole: str | None
    """Name of the step that takes a map as a whole."""
    known: bool = False
    """Whether nothing is left to count: sweeps then work on the target and around it alone."""

    @property
    def recompute(self) -> Recompute:
        """Maps that are recomputed on every tile."""
        if any(each.again for each in self.maps):
            return "first" if any(each.names for each in self.maps) else "all"
        return "none"

    @property
    def residual_bytes(self) -> dict[str, int]:
        """Kept bytes by tier, when they are the most."""
        return bytes_at_peak(self.maps)

    @property
    def tier(self) -> str:
        """The tiers as text, for instance "ram+disk"."""
        used = [tier for tier, size in self.residual_bytes.items() if size]
        if not all(each.is_complete for each in self.maps):
            used.append("recompute")
        return "+".join(used)

    def summary(self) -> str:
        """Return text for the user: the grid, and where maps lie."""
        places = {"device": "on the device", "ram": "in memory", "disk": "on disk"}
        sizes = self.residual_bytes.items()
        stored = [f"{format_size(size)} {places[tier]}" for tier, size in sizes if size]
        if "recompute" in self.tier:
            stored.append("made again in part" if stored else "made again")
        count = f"{self.tokens:,} tokens" if self.tokens else f"{len(self.phase_seconds)} sweeps"
        return f"{count} · residuals: {', '.join(stored) or 'none'}"

    def phases(self) -> str:
        """Return text for the user: what each phase will take."""
        phases = [f"{name} ≈ {format_seconds(s)}" for name, s in self.phase_seconds.items()]
        if len(phases) > MOST_PHASES:
            phases = [*phases[: MOST_PHASES - 2], "…", phases[-1]]
        return " · ".join(phases)

    @property
    def encode_seconds(self) -> float:
        """Seconds of the sweeps before the last."""
        *before, _ = self.phase_seconds.items()
        return sum(seconds for name, seconds in before if name != self.whole)

    @property
    def seconds(self) -> float:
        return sum(self.phase_seconds.values())

    def describe(self) -> dict[str, Any]:
        """Return a description for users and records: phases, tokens, and where maps lie."""
        return {
            "box": list(self.box),
            "grid": [self.rows, self.columns],
            "tokens": self.tokens,
            "residual_bytes": self.residual_bytes,
            "residual_dtype": self.residual_dtype,
            "recompute": self.recompute,
            "tiles_encoded_twice": sum(each.tiles - each.slots.total for each in self.maps),
            "bottleneck_on_host": self.bottleneck_on_host,
            "predicted_seconds": self.phase_seconds,
        }


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
    """Bytes free for residuals on each tier, and its bandwidth."""

    has_device: bool
    device: int
    ram: int
    disk: Callable[[], int]
    """Called only where the disk may be needed: it is measured."""
    speed: Callable[[], Bandwidth]
    ram_speed: float

    def without(self, taken: Mapping[str, int]) -> Room:
        """Return what is left beside `taken` bytes by tier."""
        device, ram = self.device - taken["device"], self.ram - taken["ram"]
        return replace(self, device=device, ram=ram, disk=lambda: self.disk() - taken["disk"])


@dataclass(frozen=True)
class Split:
    """Assignment of residuals to tiers, and the resulting time of encoding and decoding."""

    slots: Slots
    recompute: Recompute
    record_bytes: int
    encode_seconds: float
    decode_seconds: float


def batch_of(long_side: int) -> int:
    """Return the tiles at once by the image's long side in pixels, as in Inf-Dehaze's supplement.

    It names 1 below 1024, 4 up to 4096 and 16 above 8192; 8 lies between.
    """
    for limit, batch in ((1024, 1), (4097, 4), (8192, 8)):
        if long_side < limit:
            return batch
    return 16


def split(demand: Demand, room: Room, wanted: str) -> Split:
    """Return the fastest way to provide the residuals of all tiles for decoding.

    Kept residuals fill the device, then RAM, then the disk, in the order of encoding; tiles that do
    not fit are encoded twice. Copies run beside the computing, so a phase takes the longer of the
    two. The order of use is known beforehand, so this is decided once and nothing is ever evicted.
    `wanted` is one of `TIERS`; a named tier that has too little room raises `BudgetTooSmall` or
    `DiskFull`.
    """
    if wanted not in TIERS:
        raise BadParameter(f"There is no tier {wanted!r}.", f"Choose among {', '.join(TIERS)}.")
    ways: list[Split] = []
    if wanted != "recompute":
        several: tuple[Recompute, ...] = ("none", "first")
        for recompute in several if wanted == "auto" else (_of_tier(wanted),):
            if demand.first_seconds is not None:
                ways += _kept(demand, room, wanted, recompute)
            elif recompute == "none" or wanted != "auto":
                ways += _kept(demand, room, wanted, "none")
    if wanted in ("auto", "recompute"):
        seconds = demand.decode_seconds + demand.again_seconds
        nothing = Slots(0, 0, 0)
        ways.append(
            Split(nothing, "all", 0, demand.tiles * demand.encode_seconds, demand.tiles * seconds)
        )
    return min(ways, key=lambda way: way.encode_seconds + way.decode_seconds)


def _of_tier(wanted: str) -> Recompute:
    return "first" if wanted == "recompute-first" else "none"


def _kept(demand: Demand, room: Room, wanted: str, recompute: Recompute) -> list[Split]:
    """Return the ways to keep residuals that are not recomputed.

    One uses memory alone, one the disk as well.
    """
    record = sum(demand.stage_bytes[1:] if recompute == "first" else demand.stage_bytes)
    tiles = demand.tiles
    if record == 0:
        # Nothing is left to keep.
        return [_timed(demand, room, Slots(0, 0, 0), recompute, 0)]

    def fit(size: int) -> int:
        return max(0, min(tiles, size // record))

    free = wanted in ("auto", "recompute-first")
    device = fit(room.device) if free or wanted == "device" else 0
    ram = min(tiles - device, fit(room.ram)) if free or wanted == "ram" else 0
    ways = [_timed(demand, room, Slots(device, ram, 0), recompute, record)]
    if wanted in ("device", "ram"):
        _check_fit(device + ram, demand, room, wanted, record)
    elif device + ram < tiles:
        disk = min(tiles - device - ram, fit(room.disk()))
        if wanted == "disk" and disk < tiles:
            raise DiskFull(
                f"The residuals take {format_size(tiles * record)}, more than the scratch disk has.",
                f"Point {option('scratch')} to another disk, or use {option('residuals', 'auto')}.",
            )
        with_disk = _timed(demand, room, Slots(device, ram, disk), recompute, record)
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


def _timed(demand: Demand, room: Room, slots: Slots, recompute: Recompute, record: int) -> Split:
    stored, again = slots.total, demand.tiles - slots.total
    out = back = (slots.ram * record) / room.ram_speed
    if slots.disk:
        speed = room.speed()
        out += slots.disk * record / speed.write_bytes_per_second
        back += slots.disk * record / speed.read_bytes_per_second
    encode = demand.tiles * demand.encode_seconds
    decode = demand.tiles * demand.decode_seconds + again * demand.again_seconds
    if recompute == "first":
        assert demand.first_seconds is not None
        decode += stored * demand.first_seconds
    return Split(slots, recompute, record, max(encode, out), max(decode, back))


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
    """Return the bytes that workers share in a run with tiles of `tile` pixels.

    A reader takes its halo as well. The process that merges counts, and takes a map as a whole,
    reads them once.
    """
    grid = Grid(layout.box, tile, model.padded_to)
    slots = {name: each for each in layout.maps for name in each.names}
    steps = model.ordered_steps
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
