"""Planning of a run of sweeps within its budgets: batch, workers, and memory for maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from napari_restore.engine._region import CELL
from napari_restore.engine.machine._device import cores
from napari_restore.engine.planning._bandwidth import ram_bandwidth
from napari_restore.engine.planning._layout import (
    ALMOST,
    Candidate,
    Layout,
    Resources,
    cache_for,
    context_pass_cost,
    fragmentation,
)
from napari_restore.engine.planning._map_layout import (
    Room,
    StepSeconds,
    SweptLayout,
    batch_of,
    bytes_at_peak,
)
from napari_restore.engine.planning._need import Need
from napari_restore.engine.planning._shared_costs import SharedCosts, SweptRequest
from napari_restore.engine.planning._sweep_cost import SweepCosts
from napari_restore.engine.planning._tiers import SweepSeconds, stored_maps
from napari_restore.errors import (
    BadModel,
    BadParameter,
    BudgetTooSmall,
    Message,
    ResourceError,
    option,
)
from napari_restore.images import Image
from napari_restore.models import Sweep, SweptModel

SIDES = (128, 256, 512, 1024, 2048)
"""Sides of tiles to choose from where the model leaves it open."""
MOST_SHARED = 1024
"""Largest side to choose from where workers of a cluster share the tiles of each sweep."""
LEAST_GAIN = 0.9
"""Tiles in parallel must be faster than one at a time by this factor to be worth their memory."""


@dataclass(frozen=True)
class SweptCandidate(Candidate):
    """A layout of sweeps with its predicted cost."""

    staged: SweptLayout


def lay_out_sweeps(request: SweptRequest, cost: Callable[[int], SweepCosts]) -> SweptCandidate:
    """Return the fastest run within the budgets; `cost(threads)` is per worker.

    Raises `BudgetTooSmall` naming the smallest budget that would do.
    """
    choices: list[SweptCandidate] = []
    errors: list[ResourceError] = []
    for tile in _tiles(request):
        wanted = request.around(tile)
        shared = SharedCosts(wanted, tile)
        for workers in _workers(request):
            known = cost(request.invariance.threads_each(cores(), workers))
            for batch in _batches(request, known):
                try:
                    choices.append(_choice(wanted, shared, known, workers, batch))
                except ResourceError as error:
                    # A named tier has too little room beside a batch of this size.
                    errors.append(error)
    if not choices:
        raise errors[-1]
    return _quickest(choices, request.resources)


def _tiles(request: SweptRequest) -> list[int]:
    """Return the sides of a tile to choose from."""
    model = request.model
    if model.tile is not None:
        return [model.tile]
    step = math.lcm(CELL, model.multiple, request.tile_unit)
    wanted = request.computing.side
    longest = max(request.box.shape)
    usual = [side for side in SIDES if side <= MOST_SHARED] if request.shared else SIDES
    sides = {-(-side // step) * step for side in (usual if wanted is None else (wanted,))}
    # Tiles are counted from the image's origin, and begin where the box does.
    sides = {side for side in sides if not (request.box.y0 % side or request.box.x0 % side)}
    # One tile of all of a small image, but none larger.
    return sorted(side for side in sides if side < longest + step) or [min(sides)]


def _workers(request: SweptRequest) -> list[int]:
    if request.resources.device.is_accelerator:
        # While one converts pixels to source values, the other keeps the device busy.
        return [request.resources.workers] if request.resources.workers else [2, 1]
    if request.resources.workers:
        return [request.resources.workers]
    if request.invariance.threads is None:
        return sorted({cores(), 1})
    # A budget for half of the cores is no reason to use one.
    return sorted({max(1, cores() >> shift) for shift in range(cores().bit_length())})


def _batches(request: SweptRequest, cost: SweepCosts) -> list[int]:
    """Return the policy's batch and smaller ones; one tile where more at once are no faster."""
    if request.computing.tile_batch is not None:
        return [request.computing.tile_batch]
    if request.model.tile is None:
        # Where tiles may be larger, batches gain nothing.
        return [1]
    policy = batch_of(max(request.image.height, request.image.width))
    batch = request.model.batch or policy
    together = sum(part.seconds_together for part in cost.sweeps.values())
    alone = sum(part.seconds_alone for part in cost.sweeps.values())
    if together > LEAST_GAIN * alone:
        batch = 1
    return sorted({max(1, batch >> shift) for shift in range(7)}, reverse=True)


class _Base:
    """Memory of a run without its maps, in bytes, and what that leaves for them."""

    def __init__(
        self,
        request: SweptRequest,
        shared: SharedCosts,
        cost: SweepCosts,
        workers: int,
        batch: int,
        again: frozenset[str] = frozenset(),
    ) -> None:
        image, resources, prepare = request.image, request.resources, request.prepare
        on_device = resources.device.is_accelerator
        self.again = again
        need = Need(request, shared, cost, workers, batch, again)
        swell = 1.0 if on_device else fragmentation(shared.tiles)
        tiles_peak = int(swell * need.on_host)
        halos = [step.halo for step in shared.steps if isinstance(step, Sweep) and step.sees_image]
        self.cache_bytes = cache_for(image, shared.tile, max(halos), workers)
        # Known statistics are read from the disk, which takes as much.
        known = bool(prepare.peak_bytes) and not request.context
        context_bytes, block_bytes, self.context_seconds = context_pass_cost(
            image.full or image, workers, whole=request.context or known
        )
        if known:
            block_bytes, self.context_seconds = 0, 0.0
        self.on_host = on_device and shared.weights + shared.grid > resources.device_memory
        self.device = 0
        if on_device:
            grid = 0 if self.on_host else shared.grid
            settling = 0 if request.known else cost.settling_bytes + shared.listed
            self.device = shared.weights + cost.settled_bytes
            self.device += max(workers * need.on_device, grid, settling)
        grid = 0 if on_device and not self.on_host else shared.grid
        self.ram = context_bytes + prepare.statistics_bytes + self.cache_bytes
        self.ram += cost.settled_bytes
        settling = shared.listed
        if not (on_device or request.known):
            settling += cost.settling_bytes
        self.ram += max(tiles_peak, block_bytes, prepare.peak_bytes, grid, settling)
        shared_run = request.shared
        self.room = Room(
            has_device=on_device,
            # What one machine has in memory is not seen by others.
            device=resources.device_memory - self.device if on_device and not shared_run else 0,
            ram=0 if shared_run else resources.memory - self.ram,
            disk=shared.disk_room,
            speed=shared.speed,
            ram_speed=ram_bandwidth(),
        )


def _choice(
    request: SweptRequest, shared: SharedCosts, cost: SweepCosts, workers: int, batch: int
) -> SweptCandidate:
    """Return the choice for these workers and this batch, with maps where they fit."""
    threads = request.invariance.threads_each(cores(), workers)
    batch = min(batch, shared.tiles)
    workers = min(workers, -(-shared.tiles // batch))
    base = _Base(request, shared, cost, workers, batch)
    seconds = SweepSeconds(request, shared, cost, workers, batch)
    while True:
        maps, step_seconds = stored_maps(request, shared, seconds, base.room)
        lost = [each for each in maps if not each.is_complete]
        again = frozenset(name for each in lost for name in (*each.names, *each.again))
        if again <= base.again:
            break
        # Making them again takes memory that others were given.
        base = _Base(request, shared, cost, workers, batch, base.again | again)
    step_seconds[0] += base.context_seconds + request.prepare.seconds
    for number, settling in cost.settling.items():
        step_seconds[number] += 0.0 if request.known else settling.seconds
    if shared.whole is not None:
        step_seconds[shared.steps.index(shared.whole)] = (
            shared.operations * cost.seconds_per_operation
        )
    kept = bytes_at_peak(maps)
    staged = SweptLayout(
        box=request.box,
        rows=shared.rows,
        columns=shared.columns,
        tokens=shared.tokens,
        decoded=shared.decoded,
        maps=tuple(maps),
        precision=request.computing.precision,
        residual_dtype=request.computing.kept_dtype,
        bottleneck_on_host=base.on_host,
        ram_bytes=base.ram + kept["ram"],
        device_bytes=base.device + kept["device"],
        disk_bytes=shared.disk_bytes + kept["disk"],
        steps=tuple(
            StepSeconds(step.name, each)
            for step, each in zip(shared.steps, step_seconds, strict=True)
        ),
        whole=None if shared.whole is None else shared.steps.index(shared.whole),
        known=request.known,
    )
    layout = Layout(
        tile=shared.tile,
        halo=request.halo,
        tile_batch=batch,
        tiles=shared.decoded,
        workers=workers,
        threads=threads,
        read_cache_bytes=base.cache_bytes,
        invariance=request.invariance,
    )
    return SweptCandidate(layout, staged.ram_bytes, staged.seconds, staged)


def _quickest(choices: list[SweptCandidate], resources: Resources) -> SweptCandidate:
    """Return the fastest that keeps to both budgets; raise `BudgetTooSmall`.

    Of those that are hardly slower, the one that takes the least memory.
    """
    memory, device_memory = resources.memory, resources.device_memory
    fitting = [
        choice
        for choice in choices
        if choice.staged.ram_bytes <= memory and choice.staged.device_bytes <= device_memory
    ]
    if fitting:
        soon = ALMOST * min(choice.staged.seconds for choice in fitting)
        quick = [choice for choice in fitting if choice.staged.seconds <= soon]
        return min(quick, key=lambda choice: choice.staged.ram_bytes + choice.staged.device_bytes)
    layouts = [choice.staged for choice in choices]
    least = min(layouts, key=lambda layout: (layout.device_bytes > device_memory, layout.ram_bytes))
    if least.device_bytes > device_memory:
        needed, budget = least.device_bytes, "device_memory"
    else:
        needed, budget = least.ram_bytes, "memory"
    raise BudgetTooSmall(
        f"The budget is too small for this model's {least.tokens} tokens and one tile."
        if least.tokens
        else "The budget is too small for one tile of this model.",
        f"Use {option(budget, f'{math.ceil(needed * 1.05 / 2**20)}MiB')} or more, "
        f"or restore a region with {option('extent', 'region')}.",
    )


def check_tiles(model: SweptModel, tile: int | None) -> None:
    """Raise `BadParameter` for a tile size, where the model fixes it; `BadModel` for an odd one."""
    if model.tile is None:
        return
    if model.tile % CELL:
        raise BadModel(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side.",
            f"A swept model's tiles must be a multiple of {CELL}.",
        )
    if tile is not None and tile != model.tile:
        raise BadParameter(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side: that is part of it.",
            f"Omit {option('tile')}; {option('tile_batch')} sets how many are processed at once.",
        )


def about_extent(layout: SweptLayout, image: Image) -> list[str]:
    """Return the note on a model that does not see the whole image."""
    if layout.known or layout.box == (0, 0, image.height, image.width):
        return []
    return [
        Message(
            "A draft: the model knows only the region, not the whole image "
            f"({option('extent', 'region')})."
        )
    ]
