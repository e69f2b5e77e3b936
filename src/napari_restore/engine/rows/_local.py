"""Rows of models that depend on a halo around a pixel, with sweeps or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.machine.failures import FAILURES, as_failure
from napari_restore.engine.planning.tiles import box_with_halo, cut_into_tiles
from napari_restore.engine.rows._ablation import Report
from napari_restore.engine.rows._cells import Outputs, PlacedRow, at_core, rows_in
from napari_restore.engine.running.events import Note
from napari_restore.engine.running.run import Run
from napari_restore.errors import BadModel, Cancelled
from napari_restore.models import (
    RESTORED,
    AttentionRow,
    AttentionSite,
    HeadOutputs,
    Sweep,
    SweepInput,
    SweptModel,
    pad_to_multiple,
    run_steps,
)


class LocalRows:
    """Runs the sweeps on the pixel's surroundings, as one tile, and takes the rows on the way."""

    def __init__(self, run: Run) -> None:
        self.plan, self._stop = run.plan, run.state.stop
        self.tiles = run.open()
        self._reader = run.state.reader

    def rows(
        self,
        pixel: tuple[int, int],
        sites: Mapping[str, AttentionSite],
        tile_of: tuple[int, int],
    ) -> list[PlacedRow]:
        """Return the rows of a level-0 pixel (y, x) in these sites, in the tile of a pixel."""
        model = self.plan.swept
        core = Region(*tile_of, tile_of[0] + 1, tile_of[1] + 1).align(model.multiple)
        core = core.intersect(Region(0, 0, *self._size))
        box = self._around(core)
        within = pixel[0] - box.y0, pixel[1] - box.x0
        found: dict[str, AttentionRow] = {}

        def visit(step: Sweep, given: SweepInput) -> None:
            named = frozenset(name for name, site in sites.items() if site.step == step.name)
            if named:
                found.update(model.attention_rows(step.name, given, within, named))

        height, width = self._run_on(core, box, visit).shape[2:]
        return rows_in(Region(box.y0, box.x0, box.y0 + height, box.x0 + width), found, sites)

    def outputs(
        self, pixels: Sequence[tuple[int, int]], sites: Mapping[str, AttentionSite]
    ) -> Iterator[list[Outputs]]:
        """Yield what the heads of these sites put out in the tiles of level-0 pixels (y, x)."""
        model, side = self.plan.swept, self.plan.layout.tile
        whole = Region(0, 0, *self._size)
        for top, left in sorted({(y // side * side, x // side * side) for y, x in pixels}):
            core = Region(top, left, top + side, left + side).intersect(whole)
            box = self._around(core)
            found: dict[str, HeadOutputs] = {}

            def visit(
                step: Sweep, given: SweepInput, found: dict[str, HeadOutputs] = found
            ) -> None:
                named = frozenset(name for name, site in sites.items() if site.step == step.name)
                if named:
                    found.update(model.attention_outputs(step.name, given, named))

            self._run_on(core, box, visit)
            yield at_core(found, sites, core, box, self._reader.valid(core))

    def restored(self, region: Region, report: Report) -> Tensor:
        """Return a region as the network restores it, (C, h, w) float32 in model range."""
        plan = self.plan
        cores = cut_into_tiles([region], self._size, plan.layout.tile, step=plan.step)
        out: Tensor | None = None
        for done, core in enumerate(cores):
            if self._stop.is_set():
                raise Cancelled("Cancelled; nothing was written.", "Run it again.")
            report(done, len(cores))
            box, part = self._around(core), core.intersect(region)
            made = self._run_on(core, box)[0].float().cpu()
            if out is None:
                out = torch.zeros(len(made), *region.shape)
            out[(slice(None), *part.within(region))] = made[(slice(None), *part.within(box))]
        assert out is not None
        return out

    def _run_on(
        self,
        core: Region,
        box: Region,
        visit: Callable[[Sweep, SweepInput], None] | None = None,
    ) -> Tensor:
        """Run the sweeps on `box`; return its pixels (1, C, h, w), with padding."""
        model, work = self.plan.swept, self.tiles
        tile = self._reader.read(core, box)
        try:
            with work.computing():
                x = work.device.take(work.stacked([tile]))
                statistics = work.statistics_at([box], x)
                whole = pad_to_multiple(x, model.padded_to)
                view = model.view(whole, statistics)
                valid = self._valid(work.known([tile]), whole, model)
                maps, _ = run_steps(model.steps(), view, statistics, valid, visit)
        except FAILURES as error:
            raise as_failure(model, error) from error
        return maps[RESTORED]

    def _around(self, core: Region) -> Region:
        return box_with_halo(core, self.plan.layout.halo, self._size, self.plan.step)

    @property
    def _size(self) -> tuple[int, int]:
        return self.plan.image.height, self.plan.image.width

    def _valid(self, valid: Tensor | None, whole: Tensor, model: SweptModel) -> Tensor | None:
        """Return the pixels that count, grown like the view."""
        if valid is None:
            return None
        valid = self.plan.device.take(valid)
        same = valid.shape[2:] == whole.shape[2:]
        return valid if same else pad_to_multiple(valid, model.padded_to)


class TileRows:
    """Runs a model without sweeps on the tile of the pixel, the same as in a run of the plan.

    Grids of windows begin at the corner of a tile with its halo, at which one of the image begins
    too. Raises `BadModel` where cells do not join.
    """

    def __init__(self, run: Run) -> None:
        self.plan = run.plan
        for site in self.plan.model.attention_sites():
            self._check_grid(site)
        for note in self.plan.model.attention_notes:
            run.emit(Note(note))
        self.tiles = run.open()
        self._reader = run.state.reader

    def rows(
        self,
        pixel: tuple[int, int],
        sites: Mapping[str, AttentionSite],
        tile_of: tuple[int, int],
    ) -> list[PlacedRow]:
        """Return the rows of a level-0 pixel (y, x) in these sites, in the tile of a pixel."""
        return self.rows_of([pixel], sites, tile_of)[0]

    def rows_of(
        self,
        pixels: Sequence[tuple[int, int]],
        sites: Mapping[str, AttentionSite],
        tile_of: tuple[int, int],
    ) -> list[list[PlacedRow]]:
        """Return `rows` of each of several pixels, for which the model runs once."""
        plan, work = self.plan, self.tiles
        size, side = (plan.image.height, plan.image.width), plan.layout.tile
        top, left = (at // side * side for at in tile_of)
        core = Region(top, left, top + side, left + side).intersect(Region(0, 0, *size))
        box = box_with_halo(core, plan.layout.halo, size, plan.step, plan.model.least_box)
        tile = self._reader.read(core, box)
        try:
            with work.computing():
                planes = work.device.take(work.stacked([tile]))
                statistics = work.statistics_at([box], planes)
                within = [(y - box.y0, x - box.x0) for y, x in pixels]
                several = plan.model.tile_attention_rows(
                    planes, statistics, within, frozenset(sites)
                )
        except FAILURES as error:
            raise as_failure(plan.model, error) from error
        if plan.model.is_swept:
            # Beyond its own pixels a tile of sweeps is not what the whole image gives.
            several = [_within(found, sites, core, box) for found in several]
        return [rows_in(box, found, sites) for found in several]

    def _check_grid(self, site: AttentionSite) -> None:
        """Raise `BadModel` where tiles may begin within a cell or a window: it would be another there."""
        plan = self.plan
        is_single = max(plan.image.height, plan.image.width) <= plan.layout.tile
        side, what = site.stride * (site.window or 1), "window" if site.window else "cell"
        if site.key_stride is not None:
            side = max(side, site.key_stride)
        if not is_single and (plan.layout.tile % side or plan.layout.halo % side):
            raise BadModel(
                f"Tiles of {plan.model.card.id} may begin within a {what} of {site.name}, "
                f"which has {side} pixels along a side.",
                f"Give it a card with multiple_of {side}.",
            )


def _within(
    found: Mapping[str, AttentionRow], sites: Mapping[str, AttentionSite], core: Region, box: Region
) -> dict[str, AttentionRow]:
    """Return rows, those between channels without the cells that lie beyond `core`."""
    rows = dict(found)
    for name, row in found.items():
        if sites[name].kind == "channel":
            out = torch.zeros_like(row.cells[..., 0], dtype=torch.bool)
            for axis in (0, 1):
                at = row.cells[..., axis] * sites[name].stride + box[axis]
                out |= (at < core[axis]) | (at >= core[axis + 2])
            rows[name] = replace(
                row,
                weights=row.weights.masked_fill(out, 0),
                cells=row.cells.masked_fill(out[..., None], -1),
            )
    return rows
