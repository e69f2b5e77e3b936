"""Results of a part of an image without one head of the network, from that head's step onwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from napari_restore.engine._region import Region, joined
from napari_restore.engine.rows._bottleneck import BottleneckRows
from napari_restore.engine.running.sweep_work import SweepWork
from napari_restore.errors import Cancelled
from napari_restore.models import RESTORED, AttentionSite, SweptModel, WholeStep

Report = Callable[[int, int], None]
"""Called with the tiles done, and all."""
Maps = dict[str, Tensor]
"""Maps (C, h, w) of a tile by name."""


class Ablation:
    """Restores a region with a changed copy of the network, from what a run of the network kept."""

    # The copy differs from one step on: what lies before is read, not computed again.
    def __init__(self, rows: BottleneckRows, region: Region, report: Report) -> None:
        self._rows, self._report = rows, report
        grid = rows.plan.grid
        self._tiles = list(grid.touched(region.intersect(grid.padded)))
        self._region = region

    def result(
        self, changed: SweptModel | None = None, site: AttentionSite | None = None
    ) -> Tensor:
        """Return the restored region, (C, h, w) float32 in model range, by a copy `changed` in `site`, if given."""
        rows = self._rows
        work = rows.sweeping if changed is None else replace(rows.sweeping, model=changed)
        with rows.tiles.computing():
            maps = {} if site is None else self._changed_maps(work, site)
            return self._decoded(work, maps)

    # -- from the changed step on --------------------------------------------------

    def _changed_maps(self, work: SweepWork, site: AttentionSite) -> dict[int, Maps]:
        """Return the maps of the tiles that are not those of the run, by tile and name."""
        whole = work.steps.whole
        assert whole is not None
        encoded = None
        if site.step == work.steps[-1].name:
            return {}
        if site.step == whole.name:
            assert site.layer is not None
            grid, first = self._rows.kept_input(site.layer), site.layer
        else:
            encoded = self._encoded(work, whole)
            grid, first = whole.begin(encoded.clone()), 0
        for layer in range(first, whole.layers):
            self._check()
            grid = whole.layer(layer, grid, lambda share: self._check())
        found: dict[int, Maps] = {}
        for tile in self._tiles:
            found[tile] = {whole.writes.name: self._cut(grid, tile, whole, whole.margin)}
            if encoded is not None:
                found[tile][whole.reads.name] = self._cut(encoded, tile, whole, 0)
        return found

    def _encoded(self, work: SweepWork, whole: WholeStep) -> Tensor:
        """Return the tokens (H, W, C) of all tiles from the changed encoder."""
        grid, stride = self._rows.plan.grid, whole.reads.stride
        tokens = torch.empty(*grid.map_size(stride), whole.reads.channels)
        number = next(n for n, step in enumerate(work.steps) if whole.reads in step.outputs)
        for tile in range(grid.count):
            self._check()
            self._report(tile, grid.count)
            made = work.run_on(number, self._rows.input_of(number, tile))[whole.reads.name][0]
            tokens[grid.map_window(tile, stride)] = made.permute(1, 2, 0).float().cpu()
        return tokens.to(self._rows.plan.device.torch)

    def _cut(self, grid: Tensor, tile: int, whole: WholeStep, margin: int) -> Tensor:
        """Return a tile's tokens (C, h, w), with `margin` more on every side."""
        planes = grid.permute(2, 0, 1)
        padded = whole.with_margin(planes) if margin else planes
        return padded[:, *self._rows.plan.grid.map_window(tile, whole.writes.stride, margin)]

    # -- decoding ----------------------------------------------------------------------

    def _decoded(self, work: SweepWork, maps: Mapping[int, Maps]) -> Tensor:
        """Return the region from the tiles' last sweep."""
        number = len(work.steps) - 1

        def parts() -> Iterator[tuple[Region, Tensor]]:
            for done, tile in enumerate(self._tiles):
                self._check()
                self._report(done, len(self._tiles))
                read = self._rows.input_of(number, tile)
                read = replace(read, maps={**read.maps, **maps.get(tile, {})})
                made = work.run_on(number, read)[RESTORED][0].float().cpu()
                part = self._rows.plan.grid.cells(tile).intersect(self._region)
                yield part, made[(..., *part.within(read.input_box))]

        return joined(self._region, parts())

    def _check(self) -> None:
        if self._rows.stop.is_set():
            raise Cancelled("Cancelled; nothing was written.", "Run it again.")
