"""Runs of models whose pixels depend on a halo around the tile only."""

from __future__ import annotations

from napari_restore.engine._region import Region
from napari_restore.engine.masks._mask_strength import MaskStrength
from napari_restore.engine.planning._tiles import box_with_halo
from napari_restore.engine.running._events import Phase
from napari_restore.engine.running._run import Run
from napari_restore.engine.running._tile import TileInput, TileWork


class LocalRun(Run):
    """A plan of scope `local`: every tile by itself, in any order."""

    def _restore(
        self, work: TileWork, exclude: MaskStrength | None, mask: MaskStrength | None
    ) -> None:
        plan = self.plan
        size = (plan.image.height, plan.image.width)
        tiles, pending = self._tiles(mask)
        self.emit(Phase("Restoring"))

        def read(core: Region) -> TileInput:
            return self._read(core, box_with_halo(core, plan.halo, size, plan.step), exclude)

        self._pipeline(self._schedule(pending), read, work.run, self._writer(len(tiles)))
