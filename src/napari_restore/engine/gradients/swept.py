"""Gradients of models that see the whole image: through their sweeps, and back.

The graph is cut between sweeps and between tiles, and what a sweep computes on a tile is computed
again when its gradient is needed: exact, and never more in memory than the graphs of a few tiles
(gradient checkpointing, Chen et al. 2016). Between sweeps go maps, statistics, and the gradients of
both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor

from napari_restore._heap import freed_memory_returned, release_freed_memory
from napari_restore.engine._region import Region, joined
from napari_restore.engine.gradients._schedule import Schedule, differentiable
from napari_restore.engine.gradients._sweep_graph import (
    ByInputs,
    ByOutputs,
    SweepGraph,
    TileInputs,
    through_finalize,
)
from napari_restore.engine.gradients._whole import WholeGradient
from napari_restore.engine.gradients.cost import SweptGradientCost, swept_gradient_cost
from napari_restore.engine.gradients.gradient_source import GradientSource, Picture
from napari_restore.engine.gradients.kept import (
    KeptMap,
    Shelf,
    SpilledGradient,
    check_disk,
    free_disk,
)
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.threads import map_parallel
from napari_restore.engine.planning.costs import SCRATCH_BYTES
from napari_restore.engine.planning.layout import fragmentation
from napari_restore.engine.planning.tiles import Grid
from napari_restore.models import (
    RESTORED,
    Counts,
    Routing,
    Statistics,
    Sums,
    Sweep,
    SweptModel,
    WholeStep,
)

TILES = (512, 256, 128)
"""Sides of the tiles of a model that takes any."""


@dataclass(frozen=True)
class Division:
    """Tiles of a gradient, and what it takes. Sizes in bytes."""

    grid: Grid
    workers: int
    """Tiles at once."""
    schedule: Schedule
    ram: int
    """Room of maps and their gradients; the rest lies on the scratch disk."""
    bytes: int
    """Of a gradient at its peak."""


def divide(
    source: GradientSource, box: Region, cost: SweptGradientCost, room: int, tile: int | None
) -> Division:
    """Divide `room` bytes for a gradient of `box`; `tile` None: tiles by the room. Raises `DiskFull`."""
    plan, model = source.plan, source.plan.swept
    # What needs more than the room is divided as sparingly as possible.
    sides = [tile] if tile else [-(-side // model.multiple) * model.multiple for side in TILES]
    # Not the number of the layout, which restores the box alone: often that is one tile. Tiles are
    # worked on by one thread each; a device has one queue for all.
    most = 1 if plan.device.is_accelerator else plan.workers or cores()
    ways = [
        (workers, Grid(source.swept_box, side, model.padded_to))
        for workers in range(most, 0, -1)
        for side in sides
    ]
    # All cores first, then large tiles, whose halos weigh less.
    ways = [(workers, grid) for workers, grid in ways if workers <= grid.count]
    needed = {way: computing_bytes(model, cost, *way) for way in ways}
    fitting = [way for way in ways if needed[way] <= room] or [min(ways, key=needed.__getitem__)]

    schedule_of = cache(partial(Schedule, model.ordered_steps, box=box))

    def divided(workers: int, grid: Grid) -> tuple[Division, int]:
        graphs, schedule = needed[workers, grid], schedule_of(grid)
        ram = max(0, room - graphs)
        shelf = schedule.on(ram)
        return Division(grid, workers, schedule, ram, graphs + shelf.ram_bytes), shelf.disk_bytes

    divisions = []
    for way in fitting:
        division, on_disk = divided(*way)
        if not on_disk:
            return division
        divisions.append((division, on_disk))
    # No number of tiles leaves room for all maps.
    free = free_disk(plan.store.parent)
    for division, on_disk in divisions[:-1]:
        if on_disk <= free:
            return division
    division, on_disk = divisions[-1]
    check_disk(plan.store.parent, on_disk)
    return division


def computing_bytes(model: SweptModel, cost: SweptGradientCost, workers: int, grid: Grid) -> int:
    """Return the peak without maps, with so many tiles at once."""
    # What is kept of a whole step, and either one of its layers or tiles with their graphs.
    state, layer, tiles = 0, 0.0, 0
    for number, step in enumerate(model.ordered_steps):
        if isinstance(step, WholeStep):
            tokens = grid.count * (grid.tile // step.reads.stride) ** 2
            state = 4 * (3 + step.layers) * tokens * step.reads.channels
            state += step.layers * model.routing_bytes * tokens
            # What libraries allocated for the workers lies beside what they allocate for it.
            layer = cost.whole_per_token * tokens + (workers + 1) * SCRATCH_BYTES
        else:
            tiles = max(tiles, cost.sweeps[number].bytes(_pixels(step, grid)))
    # Gaps grow from tile to tile, whichever sweep it is of.
    gaps = fragmentation(grid.count * len(model.ordered_steps))
    return state + int(max(layer, gaps * workers * tiles))


def _pixels(step: Sweep, grid: Grid) -> int:
    """Return the most pixels of a tile of a sweep with its halo."""
    height, width = (min(grid.tile + 2 * step.halo, side) for side in grid.padded.shape)
    return height * width


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
        """Names of the statistics known before each sweep."""
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


R = TypeVar("R")
Beside = Callable[[Region], int]
"""Returns the bytes used elsewhere during a gradient, given the region that it lies in."""


class SweptGradients:
    """∂D/∂x of a scalar D that depends on a box of the output of a model that is swept."""

    # All tiles contribute to it. A picture costs its sweeps, the last of them on the tiles of the
    # box alone; its gradient costs as much again and the backward passes. What sweeps count follows
    # from each picture, and the gradient goes through it.
    def __init__(
        self,
        source: GradientSource,
        box: Region,
        beside: Beside = lambda region: 0,
        tile: int | None = None,
    ) -> None:
        """Divide the budget; `tile` is the side of tiles, None: by the budget. Raises `DiskFull`."""
        plan, model = source.plan, source.plan.swept
        self.source, self.box, self.model = source, box, model
        self.routes = model.routes
        """Whether discrete decisions may follow from the picture."""
        self.region = source.swept_box.intersect(Region(0, 0, *source.size))
        """Every gradient outside of it is zero."""
        self.by_statistics: dict[str, Tensor] = {}
        """After `backward`: ∂D/∂ of those statistics that require a gradient."""
        self._passed: Passed | None = None
        self._fixed: Fixed | None = None
        self._steps = model.ordered_steps
        cost = swept_gradient_cost(model, plan.device)
        divided = divide(source, box, cost, plan.memory - beside(self.region), model.tile or tile)
        self._grid, self._workers, self._ram = divided.grid, divided.workers, divided.ram
        self._schedule, self.bytes = divided.schedule, divided.bytes
        self._graphs = {
            number: SweepGraph(source, self._grid, step)
            for number, step in self._steps.sweeps.items()
        }

    def fix_routing(self, picture: Picture | None) -> None:
        """Fix the model's discrete decisions to those of `picture`; None: to those of each. See `Routing`."""
        self._fixed = None
        if picture is not None and self.routes:
            whole = self._steps.whole
            self._fixed = Fixed([Routing() for _ in range(0 if whole is None else whole.layers)])
            self._sweep(picture, keep=False).close()

    def forward(self, picture: Picture, keep: bool = False, counting: bool = True) -> Tensor:
        """Return the model's output of `picture` in the box, (1, C, h, w) in model range.

        With `keep`, the next call is `backward` for the same picture. Without `counting` the statistics
        are those that sweeps counted from the image, and only tiles near the box are computed.
        """
        if self._passed is not None:
            self._passed.close()
            self._passed = None
        passed = self._sweep(picture, keep, counting)
        try:
            y = self._restore(picture, passed)
            self._passed = passed if keep else None
        finally:
            if self._passed is None:
                passed.close()
        return y

    def _restore(self, picture: Picture, passed: Passed) -> Tensor:
        """Run the last sweep on the tiles of the box."""
        last = len(self._steps) - 1

        def restore(number: int) -> tuple[Region, Tensor]:
            inputs = self._inputs(passed, last, number)
            left, _ = self._graphs[last].forward(picture, inputs, None)
            cells = self._grid.cells(number)
            inside = cells.intersect(self.box)
            return inside, left[RESTORED][(None, ..., *inside.within(cells))]

        return joined(self.box, self._in_threads(restore, passed.schedule.forward[last]))

    def backward(self, picture: Picture, by_y: Tensor) -> Iterator[tuple[Region, Tensor]]:
        """Yield parts of the gradient by the picture, which add up, with their boxes, from ∂D/∂y in the box."""
        self.by_statistics = {}
        passed, self._passed = self._passed, None
        if passed is None:
            passed = self._sweep(picture, keep=True)
        by_statistics: dict[str, Tensor] = {}
        try:
            for number in reversed(range(len(self._steps))):
                yield from self._back_through(picture, passed, number, by_y, by_statistics)
        finally:
            passed.close()
        known = passed.statistics
        self.by_statistics = {name: by.to(known[name]) for name, by in by_statistics.items()}
        release_freed_memory()

    # -- forward ----------------------------------------------------------------------

    def _sweep(self, picture: Picture, keep: bool, counting: bool = True) -> Passed:
        """Run all steps but the last; without `keep` a map is freed after its last reader."""
        known, schedule = dict(self.source.work.statistics), self._schedule
        # Without `counting` the statistics are those of the image.
        if counting:
            for name in self.model.counted:
                known.pop(name, None)
        else:
            schedule = Schedule(self._steps, self._grid, self.box, counting=False)
        if self._fixed is not None:
            known |= self._fixed.choices
        shelf = Shelf(self._ram, self.source.plan.store.parent)
        step = self._steps.whole
        whole = None if step is None else WholeGradient(step, self._grid)
        passed = Passed(known, schedule, shelf, whole)
        try:
            for number in range(len(self._steps) - 1):
                if number in self._steps.sweeps:
                    self._sweep_one(picture, passed, number, self._steps.sweeps[number])
                elif whole is not None:
                    with torch.no_grad(), self.source.computing():
                        whole.relate(self._layers, self.source.check, keep)
                for name, kept in schedule.kept.items():
                    if not keep and kept.last == number:
                        passed.maps.pop(name).close()
        except BaseException:
            passed.close()
            raise
        return passed

    def _sweep_one(self, picture: Picture, passed: Passed, number: int, step: Sweep) -> None:
        """Run a sweep on its tiles: keep its maps, and finalize its counts."""
        counts, schedule = step.counts, passed.schedule
        if step.is_counted(passed.statistics):
            counts = None
        tiles = schedule.forward[number]
        self._open_maps(passed, number)

        def sweep(tile: int) -> tuple[int, dict[str, Tensor], Sums | None]:
            inputs = self._inputs(passed, number, tile)
            left, counted = self._graphs[number].forward(picture, inputs, counts)
            for name in left:
                if name in passed.maps:
                    passed.maps[name].put(tile, left[name])
            whole = {name: each for name, each in left.items() if name in schedule.whole}
            return tile, whole, counted

        total: Sums | None = None
        for tile, whole, counted in self._in_threads(sweep, tiles):
            for tokens in whole.values():
                assert passed.whole is not None
                passed.whole.put(tile, tokens)
            if counted is not None:
                assert counts is not None
                total = counted if total is None else counts.merged(total, counted)
        release_freed_memory()
        if counts is not None:
            assert total is not None
            self._finalize(passed, number, counts, total)

    def _open_maps(self, passed: Passed, number: int) -> None:
        device = self.source.plan.device
        for name, kept in passed.schedule.kept.items():
            if kept.writer == number:
                passed.maps[name] = KeptMap(
                    kept.map, kept.tiles, kept.margin, self._grid, passed.shelf, device
                )

    def _finalize(self, passed: Passed, number: int, counts: Counts, total: Sums) -> None:
        known = passed.statistics
        with torch.no_grad(), self.source.computing():
            found = counts.finalize(total, known)
        passed.before[number], passed.sums[number] = tuple(known), total
        for name in counts.statistics:
            value = found[name].detach()
            if name in counts.choices:
                if self._fixed is not None:
                    self._fixed.choices[name] = value
            elif value.is_floating_point():
                value = value.requires_grad_(True)
            known[name] = value

    # -- backward ---------------------------------------------------------------------

    def _back_through(
        self,
        picture: Picture,
        passed: Passed,
        number: int,
        by_y: Tensor,
        by_statistics: dict[str, Tensor],
    ) -> Iterator[tuple[Region, Tensor]]:
        """Go back through one step; yield parts of the gradient of the picture."""
        step = self._steps.sweeps.get(number)
        if step is None:
            assert passed.whole is not None
            # The graph of a layer has large tensors of all sizes: with freed blocks kept, the
            # gaps between them were half as much again.
            with freed_memory_returned(), self.source.computing():
                passed.whole.back(self._layers, self.source.check)
            return
        by_sums = None
        if number in passed.sums and step.counts is not None and differentiable(step.counts):
            by_sums = self._through_finalize(passed, number, step.counts, by_statistics)
        tiles, spills = passed.schedule.backward[number], passed.schedule.spills(number)
        for name, spill in spills.items():
            passed.by_maps[name, number] = SpilledGradient(
                spill, tiles, self._grid, passed.shelf, self.source.plan.device
            )

        def back(tile: int) -> ByInputs:
            by_maps = self._by_maps(passed, number, tile, by_y)
            by = ByOutputs(by_maps, by_sums, passed.sums.get(number, {}))
            found = self._graphs[number].backward(picture, self._inputs(passed, number, tile), by)
            for name in spills:
                passed.by_maps[name, number].put(tile, found.maps[name])
            return found

        for found in self._in_threads(back, tiles):
            for name, by in found.statistics.items():
                _add(by_statistics, name, by)
            for name in found.maps.keys() - spills.keys():
                assert passed.whole is not None
                passed.whole.add(found.number, found.maps[name])
            if found.pixels is not None:
                yield found.pixels
        release_freed_memory()
        self._free_after(passed, number)

    def _free_after(self, passed: Passed, number: int) -> None:
        """Free the maps that only this step still read, and the gradients of those it wrote."""
        for name, kept in passed.schedule.kept.items():
            if kept.first == number:
                passed.maps.pop(name).close()
        written = {one.name for one in self._steps[number].outputs}
        for key in [key for key in passed.by_maps if key[0] in written]:
            passed.by_maps.pop(key).close()

    def _through_finalize(
        self, passed: Passed, number: int, counts: Counts, by_statistics: dict[str, Tensor]
    ) -> Sums | None:
        """Return ∂D/∂ of a sweep's sums; that of the statistics before is added."""
        known = {name: passed.statistics[name] for name in passed.before[number]}
        by_after = {}
        for name in counts.statistics:
            if name in by_statistics:
                by_after[name] = by_statistics.pop(name).to(passed.statistics[name])
        with self.source.computing():
            by_sums, by_known = through_finalize(
                counts, passed.sums[number], known, passed.statistics, by_after
            )
        for name, by in by_known.items():
            _add(by_statistics, name, by)
        return by_sums or None

    def _by_maps(self, passed: Passed, number: int, tile: int, by_y: Tensor) -> dict[str, Tensor]:
        """Return ∂D/∂ of what a sweep left of a tile's own cells (C, h, w), where there is any."""
        found: dict[str, Tensor] = {}
        if number == len(self._steps) - 1:
            cells = self._grid.cells(tile)
            core = cells.intersect(self.box)
            by = by_y.new_zeros(by_y.shape[1], *cells.shape)
            by[(..., *core.within(cells))] = by_y[(0, ..., *core.within(self.box))]
            return {RESTORED: by}
        for one in self._steps[number].outputs:
            total = None
            if passed.whole is not None and one.name == passed.whole.step.reads.name:
                total = passed.whole.by_read(tile).contiguous()
            for name, reader in sorted(passed.by_maps):
                if name == one.name:
                    total = passed.by_maps[name, reader].add_to(total, tile)
            if total is not None:
                found[one.name] = total
        return found

    # -- tiles ------------------------------------------------------------------------

    def _inputs(self, passed: Passed, number: int, tile: int) -> TileInputs:
        box = self._graphs[number].box(tile)
        maps = {}
        for name in self._steps[number].inputs:
            if name in passed.maps:
                maps[name] = passed.maps[name].get(box)
            else:
                assert passed.whole is not None
                maps[name] = passed.whole.get(name, tile)
        routing = None
        if self._fixed is not None:
            routing = self._fixed.tiles.setdefault((number, tile), Routing())
        return TileInputs(tile, maps, passed.statistics, routing)

    def _in_threads(self, work: Callable[[int], R], tiles: Iterable[int]) -> Iterator[R]:
        """Yield `work` of every tile in their order, several of them at once."""
        # Each on one torch thread: sums divided among threads depend on how many there are.

        def one(tile: int) -> R:
            self.source.check()
            return work(tile)

        with self.source.computing():
            # Torch's number of threads belongs to the thread that sets it.
            one_thread = partial(torch.set_num_threads, 1)
            yield from map_parallel(tiles, one, self._workers, name="gradients", begin=one_thread)

    @property
    def _layers(self) -> list[Routing] | None:
        """Routing of a whole step's layers, while it is fixed."""
        return None if self._fixed is None or not self._fixed.layers else self._fixed.layers


Gradients = LocalGradients | SweptGradients


def gradients_of(
    source: GradientSource,
    box: Region,
    beside: Beside = lambda region: 0,
    *,
    through: bool = False,
) -> Gradients:
    """Return the gradients of the output in `box`, by the scope of the source plan's model.

    With `through` they go through what sweeps count, which otherwise is a constant of the image.
    `beside` returns the bytes of the budget that are used elsewhere, given the region of the
    gradients; tiles are worked on side by side only if they fit what is left.
    """
    if source.plan.staged is not None or (through and source.plan.model.counted):
        return SweptGradients(source, box, beside)
    return LocalGradients(source, box)


def _add(sums: dict[str, Tensor], name: str, by: Tensor) -> None:
    """Add to a sum in float64, which not every device has."""
    by = by.cpu().double()
    sums[name] = sums[name] + by if name in sums else by
