"""Layout of a staged run: its grid, and a static split of its residuals over the budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from napari_restore._format import format_seconds, format_size
from napari_restore.engine._region import Region
from napari_restore.engine.staged._bandwidth import Bandwidth
from napari_restore.engine.staged._residuals import Slots
from napari_restore.errors import BadParameter, BudgetTooSmall, DiskFull, option

TIERS = ("auto", "device", "ram", "disk", "recompute-first", "recompute")
Recompute = Literal["none", "first", "all"]
"""Residuals that are recomputed for decoding instead of being kept."""


@dataclass(frozen=True)
class StagedLayout:
    """The part of a plan that only staged models have. Sizes in bytes, times in seconds."""

    box: Region
    """Level-0 pixels of the bottleneck; its tiles begin at its corner."""
    rows: int
    columns: int
    """Tiles of the grid."""
    tokens: int
    decoded: int
    """Tiles that are restored."""
    slots: Slots
    """Tiles whose residuals are kept, by tier; those of the others are recomputed."""
    recompute: Recompute
    record_bytes: int
    """Bytes kept of one tile."""
    precision: str
    residual_dtype: str
    bottleneck_on_host: bool
    """Whether the grid does not fit the device, so that the bottleneck runs on the processor."""
    ram_bytes: int
    device_bytes: int
    disk_bytes: int
    encode_seconds: float
    bottleneck_seconds: float
    decode_seconds: float

    @property
    def residual_bytes(self) -> dict[str, int]:
        """Kept bytes by tier."""
        stored = {"device": self.slots.device, "ram": self.slots.ram, "disk": self.slots.disk}
        return {tier: tiles * self.record_bytes for tier, tiles in stored.items()}

    @property
    def tier(self) -> str:
        """The tiers as text, for instance "ram+disk"."""
        used = [tier for tier, size in self.residual_bytes.items() if size]
        if self.slots.total < self.decoded or self.recompute != "none":
            used.append("recompute")
        return "+".join(used)

    def summary(self) -> str:
        """Return text for the user: the grid, and where residuals lie."""
        places = {"device": "on the device", "ram": "in memory", "disk": "on disk"}
        sizes = self.residual_bytes.items()
        stored = [f"{format_size(size)} {places[tier]}" for tier, size in sizes if size]
        if "recompute" in self.tier:
            stored.append("made again in part" if stored else "made again")
        return f"{self.tokens:,} tokens · residuals: {', '.join(stored) or 'none'}"

    def phases(self) -> str:
        """Return text for the user: what each phase will take."""
        phases = (f"{name} ≈ {format_seconds(s)}" for name, s in self.phase_seconds.items())
        return " · ".join(phases)

    @property
    def phase_seconds(self) -> dict[str, float]:
        return {
            "encode": self.encode_seconds,
            "bottleneck": self.bottleneck_seconds,
            "decode": self.decode_seconds,
        }

    @property
    def seconds(self) -> float:
        return sum(self.phase_seconds.values())

    def describe(self) -> dict[str, Any]:
        """Return a description for users and records: phases, tokens, and where residuals lie."""
        return {
            "box": list(self.box),
            "grid": [self.rows, self.columns],
            "tokens": self.tokens,
            "residual_bytes": self.residual_bytes,
            "residual_dtype": self.residual_dtype,
            "recompute": self.recompute,
            "tiles_encoded_twice": self.decoded - self.slots.total,
            "bottleneck_on_host": self.bottleneck_on_host,
            "predicted_seconds": self.phase_seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able; `from_dict` reads them."""
        return asdict(self) | {"box": list(self.box)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StagedLayout:
        """Return the layout that `to_dict` wrote."""
        return cls(**data | {"box": Region(*data["box"]), "slots": Slots(**data["slots"])})


@dataclass(frozen=True)
class Demand:
    """Input of `split`: tiles to decode, and what they take."""

    tiles: int
    stage_bytes: tuple[int, ...]
    """Residual bytes of one tile by stage, fine to coarse."""
    encode_seconds: float
    first_seconds: float
    decode_seconds: float
    """Per tile, all workers together."""


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
            ways += _kept(demand, room, wanted, recompute)
    if wanted in ("auto", "recompute"):
        seconds = demand.decode_seconds + demand.encode_seconds
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
    decode = demand.tiles * demand.decode_seconds + again * demand.encode_seconds
    if recompute == "first":
        decode += stored * demand.first_seconds
    return Split(slots, recompute, record, max(encode, out), max(decode, back))


def grid_of(target: Region, size: tuple[int, int], tile: int, whole: bool) -> Region:
    """Return the bottleneck's box: the whole image, or whole tiles around `target`."""
    image = Region(0, 0, *size)
    return image if whole else target.align(tile).intersect(image)
