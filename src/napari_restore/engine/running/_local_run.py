"""Runs of models whose pixels depend on a halo around the tile only."""

from __future__ import annotations

from napari_restore.engine._region import Region
from napari_restore.engine.planning._tiles import box_with_halo
from napari_restore.engine.running._events import Phase
from napari_restore.engine.running._run import Run
from napari_restore.engine.running._tile import TileWork
from napari_restore.engine.running._tile_reader import TileInput

RESTORING = "Restoring"


class LocalRun(Run):
    """A plan of scope `local`: every tile by itself, in any order."""

    def _restore(self, work: TileWork) -> None:
        tiles, pending = self._tiles()
        self.emit(Phase(RESTORING))
        pipeline = self._pipeline(self._schedule(pending), self._read, work.run)
        pipeline.run(self._writer(len(tiles)))

    def _read(self, core: Region) -> TileInput:
        plan = self.plan
        size = (plan.image.height, plan.image.width)
        box = box_with_halo(core, plan.layout.halo, size, plan.step, plan.model.least_box)
        return self.reader.read(core, box)
