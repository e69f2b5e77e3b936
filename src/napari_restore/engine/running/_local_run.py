"""Runs of models whose pixels depend on a halo around the tile only."""

from __future__ import annotations

from collections.abc import Callable

from napari_restore.engine._region import Region
from napari_restore.engine.planning._tiles import box_with_halo
from napari_restore.engine.running._agreement import Agreement
from napari_restore.engine.running._events import Phase
from napari_restore.engine.running._run import Run
from napari_restore.engine.running._tile import TileOutput, TileWork
from napari_restore.engine.running._tile_reader import TileInput
from napari_restore.models import WrappedModel

RESTORING = "Restoring"


class LocalRun(Run):
    """A plan of scope `local`: every tile by itself, in any order."""

    def _restore(self, work: TileWork) -> None:
        tiles, pending = self._tiles()
        compute = self._checked(work, pending)
        self.emit(Phase(RESTORING))
        pipeline = self._pipeline(self._schedule(pending), self._read, compute)
        pipeline.run(self._writer(len(tiles)))

    def _checked(
        self, work: TileWork, pending: list[Region]
    ) -> Callable[[list[TileInput]], list[TileOutput]]:
        """Return what restores tiles; for a user's module after a check of the first ones.

        Its card may have been proposed by a measurement. Raises `TilesDiffer`.
        """
        plan, computing = self.plan, self.plan.computing
        is_ours = not isinstance(plan.model, WrappedModel)
        if is_ours or computing.is_whole or computing.precision != "float32":
            return work.run
        agreement = Agreement(self.plan, work, self.reader.read)
        agreement.check_first(pending)
        return agreement.run

    def _read(self, core: Region) -> TileInput:
        plan = self.plan
        size = (plan.image.height, plan.image.width)
        box = box_with_halo(core, plan.layout.halo, size, plan.step, plan.model.least_box)
        return self.reader.read(core, box)
