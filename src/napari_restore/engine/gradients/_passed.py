"""What the sweeps of one picture leave for its gradient, and for pictures after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from napari_restore.engine.gradients._kept import KeptMap, Shelf, SpilledGradient
from napari_restore.engine.gradients._schedule import Schedule
from napari_restore.engine.gradients._whole import WholeGradient
from napari_restore.models import Routing, Statistics, Sums


@dataclass
class Fixed:
    """The discrete decisions of one picture, for all that follow."""

    layers: list[Routing]
    """Of a whole step."""
    tiles: dict[tuple[int, int], Routing] = field(default_factory=dict)
    """By sweep and tile."""
    choices: dict[str, Tensor] = field(default_factory=dict)
    """Statistics, see `Counts.choices`."""


class Passed:
    """What the sweeps of a picture left, for its gradient."""

    def __init__(
        self,
        statistics: Statistics,
        schedule: Schedule,
        shelf: Shelf,
        whole: WholeGradient | None,
    ) -> None:
        self.statistics, self.schedule = dict(statistics), schedule
        self.shelf, self.whole = shelf, whole
        self.before: dict[int, tuple[str, ...]] = {}
        """Names of the statistics known before each sweep settled any."""
        self.sums: dict[int, Sums] = {}
        self.maps: dict[str, KeptMap] = {}
        self.by_maps: dict[tuple[str, int], SpilledGradient] = {}
        """By map and reader."""

    def close(self) -> None:
        for kept in self.maps.values():
            kept.close()
        for spilled in self.by_maps.values():
            spilled.close()
        self.maps.clear()
        self.by_maps.clear()
        self.shelf.close()
