"""One sweep of a model on one tile of a picture, with its graph and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.gradients.gradient_source import GradientSource, Picture
from napari_restore.engine.gradients.vjp import vjp_of_used
from napari_restore.engine.planning.tiles import Grid
from napari_restore.engine.running.sweep_work import cell_slices, reflection
from napari_restore.engine.running.tile import TileWork
from napari_restore.models import Counts, Map, Routing, Statistics, Sweep, SweepInput

Maps = Mapping[str, Tensor]


@dataclass(frozen=True)
class TileInputs:
    """What a sweep is given of one tile, but for the picture."""

    number: int
    maps: Maps
    """(C, h, w) of the tile's box."""
    statistics: Statistics
    routing: Routing | None


@dataclass(frozen=True)
class ByOutputs:
    """∂D/∂ of what a sweep leaves of one tile."""

    maps: Maps
    """(C, h, w) of the tile's own cells; those without a gradient are left out."""
    counts: Maps | None
    """(1, …) of the sums over all tiles; None: nothing is counted."""
    sums: Maps
    """These sums."""


@dataclass(frozen=True)
class ByInputs:
    """∂D/∂ of what a sweep was given of one tile."""

    number: int
    pixels: tuple[Region, Tensor] | None
    """(1, C, h, w) of the picture, and its box."""
    maps: Maps
    """(C, h, w) of the tile's box."""
    statistics: Statistics
    """Those that have any."""


class SweepGraph:
    """A sweep on the tiles of a grid; `work` holds the statistics that change with the picture."""

    def __init__(self, source: GradientSource, grid: Grid, step: Sweep) -> None:
        self._source, self._model = source, source.plan.swept
        self._grid, self.step = grid, step

    def forward(
        self, picture: Picture, inputs: TileInputs, counts: Counts | None
    ) -> tuple[dict[str, Tensor], Maps | None]:
        """Return what the sweep leaves of a tile's own cells (C, h, w), and its counts (1, …)."""
        box = self.box(inputs.number)
        features = () if counts is None else counts.features
        wanted = frozenset(each.name for each in (*self.step.writes, *features))
        with torch.no_grad():
            work = replace(self._source.work, statistics=inputs.statistics)
            view = self._view(picture, box, work) if self.step.sees_image else None
            maps = {name: one[None] for name, one in inputs.maps.items()}
            outputs = self._run(box, view, maps, inputs, inputs.statistics, wanted)
            left = {one.name: self._core(one, outputs, inputs.number) for one in self.step.writes}
            counted = None
            if counts is not None:
                counted = self._counted(counts, outputs, inputs.number)
        return {name: core[0] for name, core in left.items()}, counted

    def backward(self, picture: Picture, inputs: TileInputs, by: ByOutputs) -> ByInputs:
        """Return the gradients of a tile's inputs: the sweep is run again, with its graph."""
        box, step = self.box(inputs.number), self.step
        counts = step.counts if by.counts else None
        statistics, leaves = with_leaves(inputs.statistics)
        view = None
        if step.sees_image:
            with torch.no_grad():
                work = replace(self._source.work, statistics=inputs.statistics)
                view = self._view(picture, box, work).detach()
        maps = {name: one[None].detach() for name, one in inputs.maps.items()}
        pixels = [] if view is None else [view]
        for one in (*pixels, *maps.values()):
            one.requires_grad_(True)
        features = () if counts is None else counts.features
        wanted = frozenset([*by.maps, *(each.name for each in features)])
        with torch.enable_grad():
            made = self._run(box, view, maps, inputs, statistics, wanted)
            writes = [one for one in step.writes if one.name in by.maps]
            outputs = [self._core(one, made, inputs.number) for one in writes]
            gradients = [by.maps[one.name][None] for one in writes]
            if counts is not None and by.counts is not None:
                counted = self._counted(counts, made, inputs.number)
                by_counts = by.counts
                if counts.of_tile is not None:
                    by_counts = counts.of_tile(by.counts, by.sums, counted)
                outputs += [counted[name] for name in by_counts]
                gradients += by_counts.values()
        del made
        found = vjp_of_used(outputs, gradients, [*pixels, *maps.values(), *leaves.values()])
        del outputs
        by_view = found.pop(0) if pixels else None
        by_maps = {
            name: torch.zeros_like(one[0]) if each is None else each[0]
            for (name, one), each in zip(maps.items(), found, strict=False)
        }
        by_statistics = {
            name: each
            for name, each in zip(leaves, found[len(maps) :], strict=True)
            if each is not None
        }
        back = None
        if by_view is not None:
            back, more = self._through_view(picture, box, by_view, inputs.statistics)
            for name, each in more.items():
                known = by_statistics.get(name)
                by_statistics[name] = each if known is None else known + each
        return ByInputs(inputs.number, back, by_maps, by_statistics)

    # -- one call --------------------------------------------------------------------

    def _run(
        self,
        box: Region,
        view: Tensor | None,
        maps: Maps,
        inputs: TileInputs,
        statistics: Statistics,
        wanted: frozenset[str],
    ) -> Mapping[str, Tensor]:
        source = self._source
        like = next(iter(maps.values())) if view is None else view
        placed = replace(source.work, statistics=statistics).statistics_at([box], like)
        valid = None
        if self.step.sees_image:
            valid = self._reflected(source.known, box)
        return self.step.run(SweepInput(view, maps, placed, wanted, valid, inputs.routing))

    def _counted(self, counts: Counts, outputs: Maps, number: int) -> Maps:
        features = {each.name: self._core(each, outputs, number) for each in counts.features}
        return counts.count(features, self._reflected(self._source.counted, self._cells(number)))

    def _through_view(
        self, picture: Picture, box: Region, by_view: Tensor, statistics: Statistics
    ) -> tuple[tuple[Region, Tensor], dict[str, Tensor]]:
        """Return ∂D/∂ of the picture's pixels with their box, and of statistics."""
        # After the sweep's graph: that of the view need not lie beside it.
        needed, _ = reflection(box, self._source.size)
        known, leaves = with_leaves(statistics)
        x = picture(needed).detach().requires_grad_(True)
        with torch.enable_grad():
            view = self._viewed(x, box, replace(self._source.work, statistics=known))
        by_pixels, *rest = vjp_of_used([view], [by_view], [x, *leaves.values()])
        found = {name: by for name, by in zip(leaves, rest, strict=True) if by is not None}
        return (needed, torch.zeros_like(x) if by_pixels is None else by_pixels), found

    # -- pixels ------------------------------------------------------------------------

    def _view(self, picture: Picture, box: Region, work: TileWork) -> Tensor:
        needed, _ = reflection(box, self._source.size)
        return self._viewed(picture(needed), box, work)

    def _viewed(self, x: Tensor, box: Region, work: TileWork) -> Tensor:
        """Return the model's view of `box` from the pixels that it needs, reflected at the edge."""
        tile = self._taken(x, box)
        return self._model.view(tile, work.statistics_at([box], tile))

    def _taken(self, x: Tensor, box: Region) -> Tensor:
        needed, (rows, columns) = reflection(box, self._source.size)
        if needed == box:
            return x
        row, column = (torch.from_numpy(each).to(x.device) for each in (rows, columns))
        return x[..., row[:, None], column]

    def _reflected(self, mask: Callable[[Region], Tensor | None], box: Region) -> Tensor | None:
        """Return what `mask` says of a box, (1, 1, h, w) bool."""
        needed, _ = reflection(box, self._source.size)
        found = mask(needed)
        return None if found is None else self._taken(found, box)

    # -- positions ---------------------------------------------------------------------

    def box(self, number: int) -> Region:
        """Return a tile's cells with the halo, within the padded image."""
        return self._grid.around(self._cells(number), self.step.halo)

    def _cells(self, number: int) -> Region:
        return self._grid.cells(number)

    def _core(self, one: Map, outputs: Maps, number: int) -> Tensor:
        """Return (1, C, h, w) of the tile's own cells."""
        y, x = cell_slices(self._cells(number).within(self.box(number)), one)
        return outputs[one.name][..., y, x]


def through_finalize(
    counts: Counts,
    sums: Maps,
    known: Statistics,
    after: Statistics,
    by_after: Statistics,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return ∂D/∂ of the sums over all tiles, and of the statistics `known` before."""
    statistics, leaves = with_leaves(known)
    sums = {name: each.detach().requires_grad_(True) for name, each in sums.items()}
    # The choices of the statistics that followed are taken as they were.
    choices = {name: after[name] for name in counts.choices}
    with torch.enable_grad():
        again = counts.finalize(sums, {**statistics, **choices})
    names = [name for name in by_after if again[name].requires_grad]
    inputs = [*sums.values(), *leaves.values()]
    found = vjp_of_used([again[n] for n in names], [by_after[n] for n in names], inputs)
    by_sums = {name: by for name, by in zip(sums, found, strict=False) if by is not None}
    by_known = {
        name: by for name, by in zip(leaves, found[len(sums) :], strict=True) if by is not None
    }
    return by_sums, by_known


def with_leaves(statistics: Statistics) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return `statistics` with leaves in place of those that a gradient goes through, and those."""
    leaves = {
        name: value.detach().requires_grad_(True)
        for name, value in statistics.items()
        if value.requires_grad
    }
    return {**statistics, **leaves}, leaves
