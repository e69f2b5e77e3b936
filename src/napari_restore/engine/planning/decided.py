"""What planning decides of tiles, and of the maps of sweeps; loads no torch, for who only shows a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from napari_restore._format import format_seconds, format_size
from napari_restore.engine._region import Region
from napari_restore.engine.ledger.slab import Slots

Recompute = Literal["none", "first", "all"]
"""Residuals that are recomputed for decoding instead of being kept."""
MOST_PHASES = 6
"""Most phases that are named to the user."""


class TileInvariance(StrEnum):
    """Degree to which the bits of a pixel are independent of tile and threads."""

    # Convolution libraries choose kernels by shape and threads.
    FULL = "any tiles, any threads"
    ONE_THREAD = "any tiles, one thread each"
    """Sums are divided among threads: each tile is computed on one."""
    FIXED_TILES = "fixed tiles, one thread each"
    """Sums follow the shape of the tile: all runs use the same tiles, one at a time."""
    NONE = "no tiles"
    """Tiles differ from the whole by more than the rounding of sums."""

    @property
    def threads(self) -> int | None:
        """Threads that a tile may use; None: any number."""
        return None if self is TileInvariance.FULL else 1

    def threads_each(self, threads: int, workers: int) -> int:
        """Return how many of `threads` each of so many workers uses for its tiles."""
        return self.threads or max(1, threads // workers)


@dataclass(frozen=True)
class Layout:
    """How an image is cut into tiles, and how many are computed at once. Sides in pixels."""

    tile: int
    halo: int
    tile_batch: int
    tiles: int
    workers: int
    threads: int
    """Of each worker."""
    read_cache_bytes: int
    halo_overhead: float = 1.0
    """Pixels that are computed, those of halos as often as they are, per pixel of the image."""
    invariance: TileInvariance = TileInvariance.FULL
    """Invariance of a pixel's bits under tiling and threads on this machine; the layout follows
    it."""


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
    maps: tuple[StoredMaps, ...]
    residual_dtype: str
    bottleneck_on_host: bool
    """Whether the whole map does not fit the device, so that its step runs on the processor."""
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
            stored.append("computed again in part" if stored else "computed again")
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
