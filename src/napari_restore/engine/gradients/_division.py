"""Division of a budget among tiles with their graphs, and maps between sweeps."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.engine._region import Region
from napari_restore.engine.gradients._cost import SweptGradientCost
from napari_restore.engine.gradients._gradient_source import GradientSource
from napari_restore.engine.gradients._kept import check_disk
from napari_restore.engine.gradients._schedule import Schedule
from napari_restore.engine.planning._costs import SCRATCH_BYTES
from napari_restore.engine.planning._layout import fragmentation
from napari_restore.engine.planning._tiles import Grid
from napari_restore.models import Steps, Sweep, SweptModel, WholeStep

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
    """Divide `room` bytes for a gradient of `box`; `tile` None: tiles by the room.

    What needs more than the room is divided as sparingly as possible. Raises `DiskFull`.
    """
    plan, model = source.plan, source.plan.swept
    sides = [tile] if tile else [-(-side // model.multiple) * model.multiple for side in TILES]
    layout = plan.layout
    # Tiles are worked on by one thread each. A plan of sweeps has chosen how many; one whose
    # statistics are known has chosen for a local run, whose workers may have several threads.
    most = layout.workers if plan.staged is not None else layout.workers * layout.threads
    if plan.device.is_accelerator:
        # It has one queue for all.
        most = 1
    ways = [
        (workers, Grid(source.swept_box, side, model.padded_to))
        for workers in range(most, 0, -1)
        for side in sides
    ]
    # All cores first, then large tiles, whose halos weigh less.
    ways = [(workers, grid) for workers, grid in ways if workers <= grid.count]
    needed = [computing_bytes(model, cost, *way) for way in ways]
    fitting = [number for number, size in enumerate(needed) if size <= room]
    chosen = fitting[0] if fitting else needed.index(min(needed))
    workers, grid = ways[chosen]
    schedule = Schedule(Steps(model.steps()), grid, box)
    ram = max(0, room - needed[chosen])
    shelf = schedule.on(ram)
    check_disk(plan.store.parent, shelf.disk_bytes)
    return Division(grid, workers, schedule, ram, needed[chosen] + shelf.ram_bytes)


def computing_bytes(model: SweptModel, cost: SweptGradientCost, workers: int, grid: Grid) -> int:
    """Return the peak without maps, with so many tiles at once.

    What is kept of a whole step, and either one of its layers or tiles with their graphs.
    """
    state, layer, tiles = 0, 0.0, 0
    for number, step in enumerate(model.steps()):
        if isinstance(step, WholeStep):
            tokens = grid.count * (grid.tile // step.reads.stride) ** 2
            state = 4 * (3 + step.layers) * tokens * step.reads.channels
            state += step.layers * model.routing_bytes * tokens
            # What libraries allocated for the workers lies beside what they allocate for it.
            layer = cost.whole_per_token * tokens + (workers + 1) * SCRATCH_BYTES
        else:
            tiles = max(tiles, cost.sweeps[number].bytes(_pixels(step, grid)))
    # Gaps grow from tile to tile, whichever sweep it is of.
    gaps = fragmentation(grid.count * len(model.steps()))
    return state + int(max(layer, gaps * workers * tiles))


def _pixels(step: Sweep, grid: Grid) -> int:
    """Return the most pixels of a tile of a sweep with its halo."""
    height, width = (min(grid.tile + 2 * step.halo, side) for side in grid.padded.shape)
    return height * width
