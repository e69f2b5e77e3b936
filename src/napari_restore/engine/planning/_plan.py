"""Plan of a run: everything it will do, decided and shown before it starts."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from napari_restore._format import format_seconds, format_size
from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.memory._budget import MIB
from napari_restore.engine.memory._device import Device, cores
from napari_restore.engine.planning._calibrate import SCRATCH_BYTES, Cost
from napari_restore.engine.planning._prepare_cost import PrepareCost
from napari_restore.engine.planning._tile_invariance import FIXED_TILE, TileInvariance
from napari_restore.engine.planning._tiles import BAND, CELL, tile_sizes
from napari_restore.engine.results._adjust import Adjustment
from napari_restore.engine.staged._layout import StagedLayout
from napari_restore.engine.statistics._bands import OtherBands
from napari_restore.errors import BadParameter, BudgetTooSmall, option
from napari_restore.images import Image, Radiometry, resolve_radiometry
from napari_restore.models import (
    Context,
    RestorationModel,
    overview_factor,
    sha256_of_file,
    sha256_of_state,
)

READ_AHEAD = 2
WRITE_BEHIND = 2
ALMOST = 1.05
"""Of layouts at most this much slower than the fastest, the one with the least memory is taken."""
SHARED = 1.2
"""How much longer a tile takes on several threads beside reading and writing than
alone: they wait for each other (measured, docs/decisions/0003-threads-and-child.md)."""
TILE_SECONDS = 0.4
"""Most seconds of a tile, so that a cancel takes effect at once …"""
LEAST_QUICK_TILE = 512
"""… unless the halo would then outweigh the core."""
_EDGES = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
FRAGMENTATION = (1.5, 1.8)
"""Bytes that tiles take of a heap that keeps its freed blocks, per byte alive at the peak, in
runs of up to 40 and from 400 tiles on: gaps grow for a while (docs/benchmarks.md)."""
CONTEXT_BYTES_PER_PIXEL = 24
"""Bytes per pixel that counting a block needs beyond the pixels themselves (measured)."""
CONTEXT_SECONDS_PER_PIXEL = 25e-9
IO_SECONDS_PER_BYTE = 1 / 150e6
SECONDS_PER_TILE = 0.005
"""Seconds of a tile besides its pixels: queues, files, chunks written in part (measured)."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines one run. Frozen, and JSON-able but for `image` and `model`.

    Sizes are bytes, times seconds, regions level-0 pixels.
    """

    key: str
    image: Image = field(repr=False, compare=False)
    model: RestorationModel = field(repr=False, compare=False)
    bands: tuple[int, ...]
    other_bands: OtherBands
    targets: tuple[Region, ...]
    extent: str
    tile: int
    halo: int
    tile_batch: int
    tiles: int
    workers: int
    threads: int
    device: Device
    memory: int
    read_cache_bytes: int
    needs_context: bool
    context_file: str | None
    exclude: str | None
    mask: str | None
    feather: int
    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float
    black: float | None
    white: float | None
    maps: tuple[str, ...]
    pyramid: bool
    centre_first: bool
    store: Path
    added_ram_bytes: int
    """Bytes that the run adds at its peak to those of the idle process."""
    predicted_peak_ram_bytes: int
    predicted_peak_device_bytes: int
    predicted_disk_bytes: int
    predicted_seconds: float
    notes: tuple[str, ...] = ()
    part: Image | None = field(default=None, repr=False, compare=False)
    """The file the output belongs to, when `image` is a mosaic it is a part of."""
    origin: tuple[int, int] = (0, 0)
    """(y, x) of that file's first pixel in `image`."""
    needs_context_pass: bool = False
    """Whether statistics that the run needs are not in the cache yet."""
    precision: str = "float32"
    staged: StagedLayout | None = None
    """Grid, tiers and phases of a staged model's run."""
    tile_invariance: TileInvariance = TileInvariance.FULL
    """Invariance of a pixel's bits under tiling and threads on this machine; the plan follows
    it."""
    prepare_seconds: float = 0.0
    """Share of `predicted_seconds` for the model's preparation from the whole image; a process
    that keeps its result spends it once."""

    def __repr__(self) -> str:
        return f"<Plan {self.model.card.id!r} on {self.image.name!r}: {self.summary()}>"

    @property
    def region(self) -> Region:
        """The smallest box holding all targets."""
        return bounding_box(self.targets)

    @property
    def described(self) -> Region | None:
        """Box of the whole-image statistics in pixels of the full image; None for all of it."""
        return None if self.extent != "region" else on_full(self.region, self.image)

    @property
    def adjustment(self) -> Adjustment:
        """Settings of the blending of the result with its source."""
        return Adjustment(
            self.strength, self.luminance_only, self.protect_shadows, self.protect_highlights
        )

    def radiometry(self, context: Context | None) -> Radiometry:
        """Return black and white of the run, for which `context` may be needed."""
        image = self.image
        return resolve_radiometry(
            image,
            percentile=None
            if context is None
            else lambda q: context.percentile(q, image.data_bands),
            black=self.black,
            white=self.white,
        )

    @property
    def passes(self) -> int:
        return (1 if self.staged is None else 3) + int(self.needs_context)

    @property
    def step(self) -> int:
        """Tile edges are multiples of this many pixels, counted from the image's origin."""
        fixed = self.tile_invariance is TileInvariance.FIXED_TILES
        return self.tile if fixed or self.staged is not None else tile_step(self.model)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the model's weights on the device."""
        return weight_bytes(self.model)

    def summary(self) -> str:
        """Return one line for the user: tiles, memory, time."""
        tiles = f"{self.tiles} tile{'s' if self.tiles != 1 else ''}"
        ram = f"≈ {format_size(self.predicted_peak_ram_bytes)}"
        return f"{tiles} · {ram} · ≈ {format_seconds(self.predicted_seconds)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record's `plan` object, with what identifies the run."""
        return {
            "key": self.key,
            "scope": self.model.card.scope,
            "tile": self.tile,
            "halo": self.halo,
            "tile_batch": self.tile_batch,
            "tiles": self.tiles,
            "passes": self.passes,
            "residual_tier": None if self.staged is None else self.staged.tier,
            "residual_bytes": 0
            if self.staged is None
            else sum(self.staged.residual_bytes.values()),
            "precision": self.precision,
            "staged": None if self.staged is None else self.staged.describe(),
            "tile_invariance": str(self.tile_invariance),
            "workers": self.workers,
            "threads": self.threads,
            "device": self.device.name,
            "memory_bytes": self.memory,
            "predicted_peak_ram_bytes": self.predicted_peak_ram_bytes,
            "predicted_peak_device_bytes": self.predicted_peak_device_bytes,
            "predicted_disk_bytes": self.predicted_disk_bytes,
            "predicted_seconds": self.predicted_seconds,
            "notes": list(self.notes),
        }


def on_full(region: Region, image: Image) -> Region:
    """Return `region` of `image` in pixels of the image it is a level of, or of itself."""
    if image.full is None:
        return region
    y0, x0, y1, x1 = (edge * image.scale for edge in region)
    return Region(y0, x0, y1, x1).intersect(Region(0, 0, image.full.height, image.full.width))


def run_key(image: Image, model: RestorationModel, settings: dict[str, Any]) -> str:
    """Return the key of the pixels a run makes: same key, same pixels.

    `settings` contains everything but image and model that may change a value. Targets and masks
    are not part of it: they select pixels, they change none.
    """
    return _digest([version("napari-restore"), image.fingerprint, model_key(model), settings])


def folder_name(image: Image, model: RestorationModel, settings: dict[str, Any]) -> str:
    """Return the name of a run's folder: the same for a source that changed under its name."""
    source = image.fingerprint if image.path is None else str(image.path)
    return _digest([source, image.spec, model.card.id, dict(model.card.values), settings])


def model_key(model: RestorationModel) -> list[Any]:
    """Return everything that determines what `model` computes.

    This is card, values, weights, and foreign code. A module passed in from Python cannot be
    identified by its code; it gets a random name for its lifetime.
    """
    card, spec = model.card, model.spec
    code = ""
    if not spec:
        code = _OWN_NAMES.setdefault(model, uuid.uuid4().hex)
    elif ".py:" in str(spec.get("model", "")):
        code = sha256_of_file(Path(str(spec["model"]).rpartition(":")[0]))
    return [card.id, dict(card.values), sha256_of_state(model), code]


_OWN_NAMES: WeakKeyDictionary[RestorationModel, str] = WeakKeyDictionary()


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Layout:
    """Tile size and workers with their predicted cost."""

    tile: int
    workers: int
    threads: int
    tiles: int
    peak_bytes: int
    seconds: float
    read_cache_bytes: int


def lay_out(
    image: Image,
    model: RestorationModel,
    bands: tuple[int, ...],
    targets: tuple[Region, ...],
    halo: int,
    cost: Callable[[int], Cost],
    *,
    memory: int,
    tile: int | None = None,
    workers: int | None = None,
    context: bool = False,
    batch: int = 1,
    maps_bytes: int = 0,
    prepare: PrepareCost | None = None,
    invariance: TileInvariance = TileInvariance.FULL,
    block_bytes: int = 0,
) -> Layout:
    """Return the fastest tile size and number of workers whose peak fits `memory`.

    `cost(threads)` gives a tile's cost for that many threads per worker; `block_bytes` are those of
    a block of the image that must be decoded as one. Raises `BudgetTooSmall` naming the smallest
    budget that would do.
    """
    multiple = tile_step(model)
    if invariance is TileInvariance.FIXED_TILES:
        # All runs use these tiles, in full: a pixel then has one way to be computed.
        multiple = tile = -(-FIXED_TILE // multiple) * multiple
        batch = 1
    if tile is not None:
        if tile < 1:
            raise BadParameter(
                f"Tile {tile} is no size.", f"Use for instance {option('tile', 1024)}."
            )
        edges: tuple[int, ...] = (-(-tile // multiple) * multiple,)
    else:
        edges = tuple(sorted({-(-edge // multiple) * multiple for edge in _EDGES}))

    def threads_of(workers: int) -> int:
        return invariance.threads or max(1, cores() // workers)

    choices = [workers] if workers else sorted({1, cores()}, reverse=True)
    candidates = [
        _cost_of(
            image,
            bands,
            targets,
            halo,
            cost(threads_of(n)),
            edge,
            n,
            context,
            batch,
            multiple,
            maps_bytes,
            prepare or PrepareCost(),
            threads_of(n),
        )
        for n in choices
        for edge in edges
    ]
    room = memory - block_bytes
    fitting = [layout for layout in candidates if layout.peak_bytes <= room]
    if not fitting:
        least = min(layout.peak_bytes for layout in candidates) + block_bytes
        if block_bytes and (room < 0 or least - block_bytes <= memory):
            raise block_too_large(image, memory, least)
        raise BudgetTooSmall(
            f"The budget of {format_size(memory)} is too small for one tile.",
            f"Use {option('memory', _mebibytes(least))} or more, or a smaller {option('tile')}.",
        )
    quick = [
        layout
        for layout in fitting
        if layout.tile <= LEAST_QUICK_TILE
        or _tile_seconds(image, cost(layout.threads), layout.tile + 2 * halo) <= TILE_SECONDS
    ]
    soon = ALMOST * min(layout.seconds for layout in quick or fitting)
    best = min(
        (layout for layout in quick or fitting if layout.seconds <= soon),
        key=lambda layout: layout.peak_bytes,
    )
    spare = room - best.peak_bytes
    wanted = cache_for(image, best.tile, halo, best.workers)
    # A cache of one row of halo chunks saves decoding them twice.
    bonus = max(0, min(spare, wanted - best.read_cache_bytes))
    return replace(
        best,
        read_cache_bytes=best.read_cache_bytes + bonus,
        peak_bytes=best.peak_bytes + block_bytes + min(bonus, image_bytes(image)),
    )


def _mebibytes(needed: int) -> str:
    """Return a budget with some room above `needed` bytes."""
    return f"{math.ceil(needed * 1.05 / MIB)}MiB"


def block_too_large(image: Image, memory: int, needed: int) -> BudgetTooSmall:
    """Return the error of an image that is decoded in blocks for which `memory` is too small."""
    return BudgetTooSmall(
        f"{image.name} must be decoded in blocks of {format_size(image.block_bytes)}, for which "
        f"the budget of {format_size(memory)} is too small.",
        f"Use {option('memory', _mebibytes(needed))} or more, or save the image with tiles "
        "of 512 × 512, for example with gdal_translate -co TILED=YES.",
    )


def weight_bytes(model: RestorationModel) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def tile_step(model: RestorationModel) -> int:
    """Return the multiple of pixels that edges of tiles must be."""
    return math.lcm(CELL, model.card.multiple_of)


def image_bytes(image: Image) -> int:
    return image.height * image.width * image.bands * image.dtype.itemsize


def cache_for(image: Image, tile: int, halo: int, workers: int) -> int:
    """Return the bytes of chunks worth caching: those of one row of tiles, as wide as a band."""
    rows, columns = image.chunk
    if halo == 0 and tile % rows == 0 and tile % columns == 0:
        return 0
    down = -(-(tile + 2 * halo) // rows) + 1
    across = -(-min(image.width, BAND + 2 * halo) // columns) + 1
    chunk = rows * columns * image.bands * image.dtype.itemsize
    return min(image_bytes(image), chunk * (down * across + 2 * workers))


def fragmentation(tiles: int) -> float:
    """Return bytes that tiles take of a heap per byte alive; see `FRAGMENTATION`."""
    first, last = FRAGMENTATION
    return first + (last - first) * min(1.0, max(0.0, math.log10(tiles / 40)))


def _tile_seconds(image: Image, cost: Cost, side: int) -> float:
    """Return the seconds of one tile with an input of `side` × `side` pixels, read and written."""
    pixel = image.bands * image.dtype.itemsize
    return cost.seconds(side**2) + side**2 * pixel * IO_SECONDS_PER_BYTE


def _cost_of(
    image: Image,
    bands: tuple[int, ...],
    targets: tuple[Region, ...],
    halo: int,
    cost: Cost,
    edge: int,
    workers: int,
    context: bool,
    batch: int,
    step: int,
    maps_bytes: int,
    prepare: PrepareCost,
    threads: int,
) -> Layout:
    size = (image.height, image.width)
    tiles = tile_sizes(targets, size, edge, halo, step)
    largest = tiles.largest
    pixel = image.bands * image.dtype.itemsize
    batch = min(batch, tiles.count)
    batches = -(-tiles.count // batch)
    running = min(workers, batches)
    waiting = min(READ_AHEAD, batches - running)
    # Validity and an excluding mask, a byte each.
    mask = 2
    # In a worker: source, model input and change in float32, validity, output.
    tile_bytes = cost.tile_bytes(largest) + SCRATCH_BYTES
    core = min(largest, edge**2)
    tile_bytes += largest * (pixel + 8 * len(bands) + 2 * mask) + core * (pixel + maps_bytes)
    tile_bytes *= batch
    queued = waiting * batch * largest * (pixel + mask)
    queued += min(WRITE_BEHIND + batch - 1, tiles.count) * core * (pixel * 4 // 3 + maps_bytes)
    cache = min(image_bytes(image), 4 * image.chunk[0] * image.chunk[1] * pixel * workers)
    context_bytes, blocks, context_seconds = context_pass_cost(
        image.full or image, workers, whole=context
    )
    if prepare.peak_bytes and not context:
        # Statistics that are known are read from the disk.
        context_bytes = context_pass_cost(image.full or image, workers, whole=True)[0]
    alive = int(fragmentation(tiles.count) * (running * tile_bytes + queued))
    peak = context_bytes + prepare.statistics_bytes + cache + max(alive, blocks, prepare.peak_bytes)
    seconds = cost.seconds(tiles.input_pixels) / running * (SHARED if threads > 1 else 1)
    if tiles.count <= 4 * running:
        rounds = -(-tiles.count // running)
        seconds = max(seconds, rounds * cost.seconds(largest))
    seconds += tiles.count * SECONDS_PER_TILE / running
    seconds += tiles.input_pixels * pixel * IO_SECONDS_PER_BYTE / cores()
    seconds += context_seconds + prepare.seconds
    return Layout(edge, workers, threads, tiles.count, peak, seconds, cache)


def context_pass_cost(image: Image, workers: int, *, whole: bool) -> tuple[int, int, float]:
    """Return bytes kept, peak bytes of a block and seconds of a pass over the whole image.

    Zeros if not `whole`.
    """
    if not whole:
        return 0, 0, 0.0
    pixels = image.height * image.width
    pixel = image.bands * image.dtype.itemsize
    factor = overview_factor(image.height, image.width)
    context_bytes = image.bands * (65536 * 24 + 4 * (pixels // factor**2))
    block = min(2048**2, pixels) * (pixel + CONTEXT_BYTES_PER_PIXEL)
    seconds = pixels * (CONTEXT_SECONDS_PER_PIXEL + pixel * IO_SECONDS_PER_BYTE) / cores()
    return context_bytes, (workers + 1) * block, seconds
