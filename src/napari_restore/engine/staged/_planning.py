"""Planning of a staged run within its budgets: batch, workers, and memory for residuals."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from napari_restore.engine._region import Region
from napari_restore.engine.memory._budget import MIB
from napari_restore.engine.memory._device import cores
from napari_restore.engine.planning._calibrate import SCRATCH_BYTES
from napari_restore.engine.planning._layout import (
    ALMOST,
    IO_SECONDS_PER_BYTE,
    READ_AHEAD,
    SECONDS_PER_TILE,
    WRITE_BEHIND,
    Candidate,
    Layout,
    LayoutRequest,
    Resources,
    cache_for,
    context_pass_cost,
    fragmentation,
    image_bytes,
    weight_bytes,
)
from napari_restore.engine.planning._tiles import CELL, tile_sizes
from napari_restore.engine.running._precision import dtype_of
from napari_restore.engine.staged import _bandwidth
from napari_restore.engine.staged._bandwidth import ram_bandwidth
from napari_restore.engine.staged._cost import PartCost, StagedCost
from napari_restore.engine.staged._layout import (
    Demand,
    Room,
    Split,
    StagedLayout,
    batch_of,
    split,
)
from napari_restore.engine.staged._tokens import is_related, tile_bytes
from napari_restore.errors import (
    BadModel,
    BadParameter,
    BudgetTooSmall,
    Message,
    ResourceError,
    option,
)
from napari_restore.images import Image
from napari_restore.models import StagedModel

DISK_SHARE = 0.9
"""Share of the free scratch disk that residuals may take."""
LEAST_GAIN = 0.9
"""Tiles in parallel must be faster than one at a time by this factor to be worth their memory."""


@dataclass(frozen=True, kw_only=True)
class StagedRequest(LayoutRequest):
    """Input of a staged plan. Sizes in bytes."""

    model: StagedModel
    box: Region
    """Pixels of the bottleneck."""
    folder: Path
    """Folder of tokens and residuals, perhaps with those of an earlier run."""
    key: str
    """Key of the run: tokens of another one are of no use."""


@dataclass(frozen=True)
class StagedCandidate(Candidate):
    """A staged layout with its predicted cost."""

    staged: StagedLayout


class _SharedCosts:
    """Costs that depend neither on batch nor on workers. Sizes in bytes."""

    def __init__(self, request: StagedRequest) -> None:
        model, image, box = request.model, request.image, request.box
        tile = model.tile
        self.rows, self.columns = -(-box.height // tile), -(-box.width // tile)
        self.tiles = self.rows * self.columns
        side = tile // model.stride
        self.tokens = self.tiles * side * side
        encoded = tile_bytes(model.width, side)
        # Of the bottleneck's output, which is the larger.
        self.token_tile = tile_bytes(model.width, side, model.margin)
        size = (image.height, image.width)
        self.decoded = tile_sizes(request.targets, size, tile, 0, tile).count
        value = dtype_of(request.computing.kept_dtype).itemsize
        self.stages = tuple(value * math.prod(r.shape(tile)) for r in model.residuals)
        # Another area of the image may have been restored before.
        self.related = is_related(request.folder, self.tiles, request.key)
        grid = self.rows * side, self.columns * side
        self.grid = 0 if self.related else model.bottleneck_bytes(*grid)
        self.operations = 0.0
        if not self.related:
            layers = range(model.layers)
            self.operations = sum(model.bottleneck_operations(n, *grid) for n in layers)
        self.token_bytes = 0 if self.related else self.tiles * (encoded + self.token_tile)
        self.weights = weight_bytes(model) if request.resources.device.is_accelerator else 0
        self.speed = cache(lambda: _bandwidth.probe(_existing(request.folder)))
        self.disk_room = cache(lambda: _disk_room(request, self.token_bytes))


def lay_out_staged(request: StagedRequest, cost: Callable[[int], StagedCost]) -> StagedCandidate:
    """Return the fastest run within the budgets; `cost(threads)` is per worker.

    Raises `BudgetTooSmall` naming the smallest budget that would do.
    """
    shared = _SharedCosts(request)
    choices: list[StagedCandidate] = []
    errors: list[ResourceError] = []
    for workers in _workers(request):
        threads = max(1, cores() // workers)
        known = cost(threads)
        for batch in _batches(request, known):
            try:
                choices.append(_choice(request, shared, known, workers, batch))
            except ResourceError as error:
                # A named tier has too little room beside a batch of this size.
                errors.append(error)
    if not choices:
        raise errors[-1]
    return _quickest(choices, request.resources)


def _workers(request: StagedRequest) -> list[int]:
    if request.resources.device.is_accelerator:
        # While one converts pixels to source values, the other keeps the device busy.
        return [request.resources.workers] if request.resources.workers else [2, 1]
    return [request.resources.workers] if request.resources.workers else sorted({cores(), 1})


def _batches(request: StagedRequest, cost: StagedCost) -> list[int]:
    """Return the policy's batch and smaller ones; one tile where more at once are no faster."""
    if request.computing.tile_batch is not None:
        return [request.computing.tile_batch]
    policy = batch_of(max(request.image.height, request.image.width))
    batch = request.model.batch or policy
    together = cost.encode.seconds_together + cost.decode.seconds_together
    alone = cost.encode.seconds_alone + cost.decode.seconds_alone
    if together > LEAST_GAIN * alone:
        batch = 1
    return sorted({max(1, batch >> shift) for shift in range(7)}, reverse=True)


def _choice(
    request: StagedRequest, shared: _SharedCosts, cost: StagedCost, workers: int, batch: int
) -> StagedCandidate:
    """Return the choice for these workers and this batch, with residuals where they fit."""
    image, tile, on_device = (
        request.image,
        request.model.tile,
        request.resources.device.is_accelerator,
    )
    threads = max(1, cores() // workers)
    batch = min(batch, shared.tiles)
    workers = min(workers, -(-shared.tiles // batch))
    need = _Need(request, cost, workers, batch, shared.token_tile, sum(shared.stages))
    swell = 1.0 if on_device else fragmentation(shared.tiles)
    tiles_peak = int(swell * max(need.encoding, need.decoding))
    cache_bytes = cache_for(image, tile, 0, workers)
    context_missing, prepare = request.context, request.prepare
    # Known statistics are read from the disk, which takes as much.
    known = bool(prepare.peak_bytes) and not context_missing
    context_bytes, block_bytes, context_seconds = context_pass_cost(
        image.full or image, workers, whole=context_missing or known
    )
    if known:
        block_bytes, context_seconds = 0, 0.0
    on_host = on_device and shared.weights + shared.grid > request.resources.device_memory
    device_peak = 0
    if on_device:
        grid = 0 if on_host else shared.grid
        device_peak = shared.weights + max(workers * need.on_device, grid)
    # Cores work in parallel, batches on a device one after another.
    lanes = 1 if on_device else workers
    grid = 0 if on_device and not on_host else shared.grid
    ram = context_bytes + prepare.statistics_bytes + cache_bytes
    ram += max(tiles_peak, block_bytes, prepare.peak_bytes, grid)

    demand = Demand(
        shared.decoded,
        shared.stages,
        cost.encode.seconds(batch) / lanes,
        cost.first.seconds(batch) / lanes,
        cost.decode.seconds(batch) / lanes + SECONDS_PER_TILE / workers,
    )
    room = Room(
        has_device=on_device,
        device=request.resources.device_memory - device_peak if on_device else 0,
        ram=request.resources.memory - ram,
        disk=shared.disk_room,
        speed=shared.speed,
        ram_speed=ram_bandwidth(),
    )
    split_: Split = split(
        demand, room, "recompute" if shared.related else request.computing.residuals
    )
    pixel = image.bands * image.dtype.itemsize
    reading = tile * tile * pixel * IO_SECONDS_PER_BYTE / cores()
    encode_seconds = context_seconds + prepare.seconds
    if not shared.related:
        others = max(0, shared.tiles - shared.decoded)
        encode_seconds += split_.encode_seconds
        encode_seconds += others * demand.encode_seconds + shared.tiles * reading
    staged = StagedLayout(
        box=request.box,
        rows=shared.rows,
        columns=shared.columns,
        tokens=shared.tokens,
        decoded=shared.decoded,
        slots=split_.slots,
        recompute=split_.recompute,
        record_bytes=split_.record_bytes,
        precision=request.computing.precision,
        residual_dtype=request.computing.kept_dtype,
        bottleneck_on_host=on_host,
        ram_bytes=ram + split_.slots.ram * split_.record_bytes,
        device_bytes=device_peak + split_.slots.device * split_.record_bytes,
        disk_bytes=shared.token_bytes + split_.slots.disk * split_.record_bytes,
        encode_seconds=encode_seconds,
        bottleneck_seconds=shared.operations * cost.seconds_per_operation,
        decode_seconds=split_.decode_seconds + shared.decoded * reading,
    )
    layout = Layout(
        tile=tile,
        halo=request.halo,
        tile_batch=batch,
        tiles=shared.decoded,
        workers=workers,
        threads=threads,
        read_cache_bytes=cache_bytes,
        invariance=request.invariance,
    )
    return StagedCandidate(layout, staged.ram_bytes, staged.seconds, staged)


def _quickest(choices: list[StagedCandidate], resources: Resources) -> StagedCandidate:
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
        f"The budget is too small for this model's {least.tokens} tokens and one tile.",
        f"Use {option(budget, f'{math.ceil(needed * 1.05 / 2**20)}MiB')} or more, "
        f"or restore a region with {option('extent', 'region')}.",
    )


class _Need:
    """Bytes of batches of tiles while they are encoded and decoded."""

    def __init__(
        self,
        request: StagedRequest,
        cost: StagedCost,
        workers: int,
        batch: int,
        token_tile: int,
        residual_tile: int,
    ) -> None:
        image, tile = request.image, request.model.tile
        area = tile * tile
        pixel = image.bands * image.dtype.itemsize
        # Validity and an excluding mask, a byte each.
        source = area * (pixel + 2)
        model_input = area * 4 * len(request.bands)
        output = area * (pixel * 4 // 3 + request.maps_bytes)
        left = token_tile + residual_tile
        copied = 2 * left if request.resources.device.is_accelerator else 0
        queued = READ_AHEAD * batch * source

        def computed(part: PartCost) -> int:
            return part.bytes(batch) + SCRATCH_BYTES

        self.on_device = (
            max(
                cost.encode.bytes(batch) + batch * model_input,
                max(cost.decode.bytes(batch), cost.encode.bytes(batch)) + batch * model_input,
            )
            + batch * copied
        )
        if request.resources.device.is_accelerator:
            encoding = decoding = 0
        else:
            encoding = workers * computed(cost.encode)
            decoding = workers * (
                max(computed(cost.decode), computed(cost.encode)) + batch * residual_tile
            )
        host = workers * batch * (source + 2 * model_input)
        self.encoding = encoding + host + queued + (WRITE_BEHIND + batch) * left
        self.decoding = (
            decoding
            + host
            + queued
            + READ_AHEAD * batch * (residual_tile + 2 * token_tile)
            + (WRITE_BEHIND + batch) * output
        )


def _disk_room(request: StagedRequest, tokens: int) -> int:
    """Return the bytes that residuals may take on the scratch disk beside tokens and result."""
    free = shutil.disk_usage(_existing(request.folder)).free
    if request.folder.exists():
        # Space allocated by an earlier attempt belongs to this run.
        free += sum(file.stat().st_size for file in request.folder.iterdir() if file.is_file())
    room = free - tokens - 2 * image_bytes(request.image)
    return max(0, int(DISK_SHARE * room) - 64 * MIB)


def _existing(folder: Path) -> Path:
    """Return the nearest existing folder: none is created before a run begins."""
    while not folder.is_dir():
        folder = folder.parent
    return folder


def check_staged(model: StagedModel, tile: int | None) -> None:
    """Raise `BadParameter` for a tile size, which the model fixes, `BadModel` for an odd one."""
    if model.tile % CELL:
        raise BadModel(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side.",
            f"A staged model's tiles must be a multiple of {CELL}.",
        )
    if tile is not None and tile != model.tile:
        raise BadParameter(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side: that is part of it.",
            f"Omit {option('tile')}; {option('tile_batch')} sets how many are processed at once.",
        )


def about_extent(layout: StagedLayout, image: Image) -> list[str]:
    """Return the note on a model that does not see the whole image."""
    if layout.box == (0, 0, image.height, image.width):
        return []
    return [
        Message(
            "A draft: the model knows only the region, not the whole image "
            f"({option('extent', 'region')})."
        )
    ]
