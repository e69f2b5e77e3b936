"""Comparison of tiles with their surroundings, during the run of a user's module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from napari_restore.engine._region import Region
from napari_restore.engine.planning.layout import tile_step
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.tile_invariance import ROUNDING
from napari_restore.engine.planning.tiles import box_with_halo
from napari_restore.engine.running.tile import TileOutput, TileWork
from napari_restore.engine.running.tile_reader import TileInput
from napari_restore.errors import OutOfMemory, TilesDiffer, option

ONE_OF = 64
"""One of so many tiles is compared, drawn by its place."""
PARTS = 3
"""Most parts of a tile that are compared."""


@dataclass(frozen=True)
class Agreement:
    """Compares parts of tiles, each with the halo of the plan, with the same part of more.

    What a measurement on made-up images has missed is seen on the image itself.
    """

    plan: Plan
    work: TileWork
    read: Callable[[Region, Region], TileInput]
    """Reads a core with its input box."""

    def check_first(self, cores: list[Region]) -> None:
        """Compare parts of one of the tiles with as much around them as a tile may have.

        Raises `TilesDiffer`.
        """
        if len(cores) > 1:
            core = cores[len(cores) // 2]
            # Where there is no room for more, tiles are smaller too.
            with contextlib.suppress(OutOfMemory):
                self._compare(core, self._around(core, self.plan.layout.halo + self._step))

    def run(self, batch: list[TileInput]) -> list[TileOutput]:
        """Restore tiles as `TileWork.run`, and compare some. Raises `TilesDiffer`."""
        for tile in batch:
            if hash(tuple(tile.core)) % ONE_OF == 0:
                self._compare(tile.core, tile.input_box)
        return self.work.run(batch)

    def _around(self, core: Region, margin: int) -> Region:
        size = self.plan.image.height, self.plan.image.width
        return box_with_halo(core, margin, size, self._step)

    @property
    def _step(self) -> int:
        return tile_step(self.plan.model)

    def _compare(self, core: Region, around: Region) -> None:
        """Compare small parts of `core` with what they are in the middle of `around`."""
        halo, step = self.plan.layout.halo, self._step
        cells = [
            Region(y, x, y + step, x + step).intersect(core)
            for y in range(core.y0, core.y1, step)
            for x in range(core.x0, core.x1, step)
        ]
        drawn = sorted(cells, key=lambda cell: hash((*core, *cell)))[:PARTS]
        parts = [(one, self._around(one, halo)) for one in drawn]
        parts = [(one, box) for one, box in parts if box != around]
        if not parts:
            return
        (whole,) = self.work.run([self.read(core, around)], raw=True)
        for one, box in parts:
            (made,) = self.work.run([self.read(one, box)], raw=True)
            wanted = whole[(..., *one.within(around))]
            difference = (made[(..., *one.within(box))] - wanted).abs().nan_to_num()
            most = float(difference.max())
            if most > ROUNDING * max(1.0, float(torch.nan_to_num(wanted).abs().max())):
                model = self.plan.model
                whose = "measured" if model.measured else "of its card"
                raise TilesDiffer(
                    f"Tiles of {model.card.id} differ by up to {most:.1g} of the range from the same "
                    f"pixels in a larger part of {self.plan.image.name}: a halo of {halo} pixels and "
                    f"steps of {model.card.multiple_of}, {whose}, are too small here, and no tile was "
                    "kept.",
                    f"Use {option('tile', 'whole')}, or give it a card with a larger halo.",
                )
