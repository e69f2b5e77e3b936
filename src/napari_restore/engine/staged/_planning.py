"""Fits a staged run into its budgets: batch, workers, and what is left for residuals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from napari_restore.engine._budget import MIB
from napari_restore.engine._calibrate import SCRATCH_BYTES
from napari_restore.engine._device import Device, cores
from napari_restore.engine._plan import (
    IO_SECONDS_PER_BYTE,
    READ_AHEAD,
    SECONDS_PER_TILE,
    WRITE_BEHIND,
    Layout,
    cache_for,
    context_cost,
    fragmentation,
    image_bytes,
)
from napari_restore.engine._precision import dtype_of
from napari_restore.engine._region import Region
from napari_restore.engine._tiles import CELL, tile_sizes
from napari_restore.engine.staged import _bandwidth
from napari_restore.engine.staged._bandwidth import Bandwidth, ram_bandwidth
from napari_restore.engine.staged._cost import PartCost, StagedCost
from napari_restore.engine.staged._layout import (
    Demand,
    Room,
    Split,
    StagedLayout,
    batch_of,
    quickest,
    split,
)
from napari_restore.engine.staged._tokens import is_related
from napari_restore.errors import BadModel, BadParameter, ResourceError
from napari_restore.images import Image
from napari_restore.models import StagedModel

TOKEN_BYTES = 4
"""The grid is float32 whatever the model computes in: it is summed into, layer by layer."""
DISK_SHARE = 0.9
"""Of the free scratch disk that residuals may take."""
LEAST_GAIN = 0.9
"""Tiles side by side must be so much quicker than one after another to be worth their memory."""


@dataclass(frozen=True)
class StagedRequest:
    """What a staged plan is made from. Sizes in bytes."""

    image: Image
    model: StagedModel
    bands: tuple[int, ...]
    targets: tuple[Region, ...]
    box: Region
    """What the bottleneck sees."""
    device: Device
    memory: int
    device_memory: int
    folder: Path
    """Where tokens and residuals lie, and those of an earlier run may."""
    key: str
    """Of the run: tokens of another one are of no use."""
    precision: str
    residual_dtype: str
    residuals: str = "auto"
    batch: int | None = None
    workers: int | None = None
    context: bool = False
    maps_bytes: int = 0


@dataclass(frozen=True)
class StagedChoice:
    """The layout, and how many tiles and workers are at it at once."""

    layout: StagedLayout
    tile: int
    batch: int
    workers: int
    threads: int
    read_cache_bytes: int

    def as_layout(self) -> Layout:
        """The part that plans of all scopes have."""
        layout = self.layout
        return Layout(
            tile=self.tile,
            workers=self.workers,
            threads=self.threads,
            tiles=layout.decoded,
            peak_bytes=layout.ram_bytes,
            seconds=layout.seconds,
            read_cache_bytes=self.read_cache_bytes,
        )


def lay_out_staged(request: StagedRequest, cost: Callable[[int], StagedCost]) -> StagedChoice:
    """The quickest way to run within the budgets; `cost(threads)` is per worker.

    Raises `BudgetTooSmall` naming the smallest budget that would do.
    """
    speed = cache(lambda: _bandwidth.probe(_existing(request.folder)))
    choices: list[StagedChoice] = []
    errors: list[ResourceError] = []
    for workers in _workers(request):
        threads = max(1, cores() // workers)
        known = cost(threads)
        for batch in _batches(request, known):
            try:
                choices.append(_choice(request, known, workers, threads, batch, speed))
            except ResourceError as error:
                # A named tier has too little room beside a batch of this size.
                errors.append(error)
    if not choices:
        raise errors[-1]
    best = quickest([c.layout for c in choices], request.memory, request.device_memory)
    return next(c for c in choices if c.layout is best)


def _workers(request: StagedRequest) -> list[int]:
    if request.device.is_accelerator:
        # While one turns pixels into source values, the other keeps the device busy.
        return [request.workers] if request.workers else [2, 1]
    return [request.workers] if request.workers else sorted({cores(), 1})


def _batches(request: StagedRequest, cost: StagedCost) -> list[int]:
    """The policy's batch and smaller ones; one tile where more at once gain nothing."""
    if request.batch is not None:
        return [request.batch]
    policy = batch_of(max(request.image.height, request.image.width))
    batch = request.model.batch or policy
    together = cost.encode.seconds_together + cost.decode.seconds_together
    alone = cost.encode.seconds_alone + cost.decode.seconds_alone
    if together > LEAST_GAIN * alone:
        batch = 1
    return sorted({max(1, batch >> shift) for shift in range(7)}, reverse=True)


def _choice(
    request: StagedRequest,
    cost: StagedCost,
    workers: int,
    threads: int,
    batch: int,
    speed: Callable[[], Bandwidth],
) -> StagedChoice:
    """What these workers and this batch take, with residuals where they have room."""
    image, model, device = request.image, request.model, request.device
    tile, size = model.tile, (image.height, image.width)
    box = request.box
    rows, columns = -(-box.height // tile), -(-box.width // tile)
    side = tile // model.stride
    token_tile = model.width * side * side * TOKEN_BYTES
    tokens = rows * columns * side * side
    decoded = tile_sizes(request.targets, size, tile, 0, tile).count
    value = dtype_of(request.residual_dtype).itemsize
    stages = tuple(
        value * channels * height * width
        for channels, height, width in (r.shape(tile) for r in model.residuals)
    )
    batch = min(batch, rows * columns)
    workers = min(workers, -(-rows * columns // batch))

    # Another area of the image may have been restored before.
    related = is_related(request.folder, rows * columns, request.key)
    grid = 0 if related else model.bottleneck_bytes(rows * side, columns * side)
    need = _Need(request, cost, workers, batch, token_tile, sum(stages))
    swell = 1.0 if device.is_accelerator else fragmentation(rows * columns)
    tiles_peak = int(swell * max(need.encoding, need.decoding))
    cache_bytes = cache_for(image, tile, 0, workers)
    context_bytes, block_bytes, context_seconds = context_cost(
        image, workers, whole=request.context
    )
    fixed = context_bytes + cache_bytes
    on_device = device.is_accelerator
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) if on_device else 0
    on_host = on_device and weights + grid > request.device_memory
    tiles_on_device = workers * need.on_device
    device_peak = weights + max(tiles_on_device, 0 if on_host else grid) if on_device else 0
    # Cores work side by side, batches on a device one after another.
    lanes = 1 if on_device else workers
    ram = fixed + max(tiles_peak, block_bytes, 0 if on_device and not on_host else grid)

    token_bytes = 0 if related else 2 * rows * columns * token_tile
    demand = Demand(
        decoded,
        stages,
        cost.encode.seconds(batch) / lanes,
        cost.first.seconds(batch) / lanes,
        cost.decode.seconds(batch) / lanes + SECONDS_PER_TILE / workers,
    )
    room = Room(
        has_device=on_device,
        device=request.device_memory - device_peak if on_device else 0,
        ram=request.memory - ram,
        disk=lambda: _disk_room(request, token_bytes),
        speed=speed,
        ram_speed=ram_bandwidth(),
    )
    found: Split = split(demand, room, "recompute" if related else request.residuals)
    others = max(0, rows * columns - decoded)
    pixel = image.bands * image.dtype.itemsize
    reading = tile * tile * pixel * IO_SECONDS_PER_BYTE / cores()
    operations = sum(
        model.bottleneck_operations(index, rows * side, columns * side)
        for index in range(model.layers)
    )
    layout = StagedLayout(
        box=box,
        rows=rows,
        columns=columns,
        tokens=tokens,
        decoded=decoded,
        slots=found.slots,
        recompute=found.recompute,
        record_bytes=found.record_bytes,
        precision=request.precision,
        residual_dtype=request.residual_dtype,
        bottleneck_on_host=on_host,
        ram_bytes=ram + found.slots.ram * found.record_bytes,
        device_bytes=device_peak + found.slots.device * found.record_bytes,
        disk_bytes=token_bytes + found.slots.disk * found.record_bytes,
        encode_seconds=0.0
        if related
        else context_seconds
        + found.encode_seconds
        + others * demand.encode_seconds
        + rows * columns * reading,
        bottleneck_seconds=0.0 if related else operations * cost.seconds_per_operation,
        decode_seconds=found.decode_seconds + decoded * reading,
    )
    return StagedChoice(layout, tile, batch, workers, threads, cache_bytes)


class _Need:
    """Bytes that batches of tiles take at once while they are encoded and decoded."""

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
        copied = 2 * left if request.device.is_accelerator else 0
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
        if request.device.is_accelerator:
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
    """Bytes that residuals may take on the scratch disk beside tokens and result."""
    free = shutil.disk_usage(_existing(request.folder)).free
    if request.folder.exists():
        # What an earlier try has set aside is this run's own.
        free += sum(file.stat().st_size for file in request.folder.iterdir() if file.is_file())
    room = free - tokens - 2 * image_bytes(request.image)
    return max(0, int(DISK_SHARE * room) - 64 * MIB)


def _existing(folder: Path) -> Path:
    """The nearest folder that is there: nothing is made before a run begins."""
    while not folder.is_dir():
        folder = folder.parent
    return folder


def check_staged(model: StagedModel, tile: int | None) -> None:
    """Raise `BadParameter` for a tile size, which is the model's, and `BadModel` for an odd one."""
    if model.tile % CELL:
        raise BadModel(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side.",
            f"A staged model's tiles must be a multiple of {CELL}.",
        )
    if tile is not None and tile != model.tile:
        raise BadParameter(
            f"Tiles of {model.card.id} have {model.tile} pixels along a side: that is part of it.",
            "Leave --tile out; --tile-batch says how many are worked on at once.",
        )


def about_extent(layout: StagedLayout, image: Image) -> list[str]:
    """What to tell of a model that does not see the whole image."""
    if layout.box == (0, 0, image.height, image.width):
        return []
    return ["A draft: the model knows only the region, not the whole image (--extent region)."]
