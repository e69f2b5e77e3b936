"""Layout of a run: tile, batch and workers, as fast as the budget allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from napari_restore._format import format_size
from napari_restore.engine._region import CELL, Region
from napari_restore.engine.ledger.store_files import CHUNK
from napari_restore.engine.machine.budget import MIB
from napari_restore.engine.machine.device import Device, cores
from napari_restore.engine.planning.costs import SCRATCH_BYTES, Cost, PrepareCost, calibrate
from napari_restore.engine.planning.decided import Layout, SweptLayout, TileInvariance
from napari_restore.engine.planning.tile_invariance import FIXED_TILE
from napari_restore.engine.planning.tiles import BAND, TileSizes, tile_sizes
from napari_restore.engine.statistics.context_blocks import part_bytes
from napari_restore.errors import BudgetTooSmall, option
from napari_restore.images import Image
from napari_restore.models import RestorationModel, SweptModel, overview_factor
from napari_restore.questions import Computing

READ_AHEAD = 2
WRITE_BEHIND = 2
ALMOST = 1.02
"""Of layouts at most this much slower than the fastest, the one with the least memory is taken."""
SHARED = 1.2
"""How much longer a tile takes on several threads beside reading and writing than
alone: they wait for each other (measured, docs/decisions/0003-threads-and-child.md)."""
TILE_SECONDS = 0.4
"""Most seconds of a tile of a run that is watched, so that the first one comes soon …"""
UNWATCHED_TILE_SECONDS = 1.0
"""… and of others, so that a cancel takes effect soon …"""
LEAST_QUICK_TILE = 512
"""… unless the halo would then outweigh the core."""
_EDGES = (128, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072, 4096)
MOST_ACROSS = 12
"""Tiles across an image up to which their sides are fitted to it: with more, halos matter more."""
FRAGMENTATION = (1.5, 1.8)
"""Bytes that tiles take of a heap that keeps its freed blocks, per byte alive at the peak, in
runs of sweeps of up to 40 and from 400 tiles on: gaps grow for a while (docs/lab/benchmarks/global-models.md)."""
GAPS = (1.0, 1.8, 500)
"""The same of tiles of one step of methods on single pixels and cells: in runs of 4 tiles, and of so
many or more …"""
GAPS_OF_NETWORKS = (1.2, 1.8, 25)
"""… and of networks, whose maps have many sizes (docs/benchmarks.md). With less, `PeakMemory` would
return gaps all the time: with 1.5 that took a seventh of a run of `haze-unet`, with 1.7 a tenth."""
# Of modules, codecs and open files that come with the first tiles (measured: 14 to 28 MiB).
STARTING_BYTES = 24 * MIB
FLAGS = 3
"""Bytes per value of what is noted of a restored tile: changed, clipped, unchanged."""
CONTEXT_SECONDS_PER_PIXEL = 25e-9
IO_SECONDS_PER_BYTE = 1 / 150e6
DECODED_ONCE_BYTES = 1 << 30
"""Images of up to this many bytes are decoded once for a run that reads them twice …"""
DECODED_ONCE_SHARE = 0.25
"""… if this share of the memory budget holds them."""
SECONDS_PER_TILE = 0.005
"""Seconds of a tile besides its pixels: queues, files, chunks written in part (measured)."""


@dataclass(frozen=True)
class Candidate:
    """A layout with its predicted cost."""

    layout: Layout
    ram_bytes: int
    """Bytes that the run adds at its peak to those of the idle process."""
    device_bytes: int
    """Bytes at the peak on an accelerator; 0 without one."""
    seconds: float
    staged: SweptLayout | None = None
    """Grid, tiers and phases of a run of sweeps."""
    notes: tuple[str, ...] = ()
    """For the user."""


@dataclass(frozen=True)
class Resources:
    """What a run may take of the machine. Sizes in bytes."""

    device: Device
    memory: int
    device_memory: int
    workers: int | None = None
    """None: chosen by cost and budget."""


@dataclass(frozen=True)
class LayoutRequest:
    """Input of a layout. Sizes in bytes."""

    image: Image
    model: RestorationModel
    bands: tuple[int, ...]
    targets: tuple[Region, ...]
    computing: Computing
    resources: Resources
    halo: int = 0
    whole: bool = False
    """Whether the model is given the whole image in one pass."""
    invariance: TileInvariance = TileInvariance.FULL
    context: bool = False
    """Whether the whole image must be read first."""
    maps_bytes: int = 0
    """Per pixel."""
    shared: bool = False
    """Whether several processes write the result."""
    in_16: bool = False
    """Whether the result's pixels of 8 bits are kept in 16."""
    watched: bool = False
    """Whether tiles are shown as they come."""
    prepare: PrepareCost = field(default_factory=PrepareCost)

    @property
    def tile_unit(self) -> int:
        """Pixels of which edges of tiles are multiples besides."""
        return CHUNK if self.shared else CELL

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel of the image."""
        return self.image.bands * self.image.dtype.itemsize

    @property
    def kept_pixel_bytes(self) -> int:
        """Bytes of one pixel of the result's finest level."""
        return self.pixel_bytes * (2 if self.in_16 else 1)

    @property
    def frames(self) -> int:
        """Images that a tile is read from: all frames of a bracket."""
        return len(self.image.frames)

    @property
    def planes(self) -> int:
        """Channels of the model's input."""
        return self.frames * len(self.bands)

    @property
    def image_bytes(self) -> int:
        """Bytes of all pixels of the image."""
        return self.image.height * self.image.width * self.pixel_bytes

    @property
    def overview_factor(self) -> int:
        """Pixels of the image along a pixel of its overview."""
        image = self.image.full or self.image
        return overview_factor(image.height, image.width)

    def cost(self, threads: int) -> Cost:
        """Return the cost of a tile for so many threads per worker; cached."""
        image, device = self.image, self.resources.device
        whole = image.height * image.width if self.whole else None
        roughly = image.full is not None and not self.whole
        coarser = self.overview_factor
        return calibrate(self.model, device, threads, whole=whole, coarser=coarser, roughly=roughly)

    def kept_bytes(self, pyramid: bool) -> int:
        """Return the bytes of the result on the disk."""
        more = self.result_bytes(pyramid=False) if self.in_16 else 0
        return self.result_bytes(pyramid) + more

    def result_bytes(self, pyramid: bool) -> int:
        """Return the bytes of the result in the image's dtype."""
        share = 4 / 3 if pyramid else 1.0
        image, pixels = self.image, sum(target.pixels for target in self.targets)
        return int(pixels * self.image_bytes / max(1, image.height * image.width) * share)

    def cache_for(self, tile: int, halo: int, workers: int) -> int:
        """Return the bytes of chunks worth caching: those of one row of tiles, as wide as a band."""
        rows, columns = self.image.chunk
        if halo == 0 and tile % rows == 0 and tile % columns == 0:
            return 0
        size = tile + 2 * halo, min(self.image.width, BAND + 2 * halo)
        return sum(frame.chunk_bytes(size, 2 * workers) for frame in self.image.frames)

    def context_cost(self, workers: int) -> tuple[int, int, float]:
        """Return bytes kept, peak bytes of a block and seconds of a pass over the whole image."""
        # Of statistics that are read from the disk only what is kept; zeros where none are needed.
        known = bool(self.prepare.peak_bytes) and not self.context
        if not (self.context or known):
            return 0, 0, 0.0
        image = self.image.full or self.image
        pixels = image.height * image.width
        context_bytes = image.bands * (65536 * 24 + 4 * (pixels // self.overview_factor**2))
        if known:
            return context_bytes, 0, 0.0
        each = CONTEXT_SECONDS_PER_PIXEL + self.pixel_bytes * IO_SECONDS_PER_BYTE
        return context_bytes, (workers + 1) * part_bytes(image), pixels * each / cores()


def lay_out(request: LayoutRequest) -> Candidate:
    """Return the fastest tiles and workers whose peak fits the memory; raises `BudgetTooSmall` with what would do."""
    resources, image = request.resources, request.image
    on_device = resources.device.is_accelerator
    memory = resources.device_memory if on_device else resources.memory
    # Of a block of the image that must be decoded as one.
    block_bytes = 0 if on_device else (image.full or image).block_bytes
    candidates = [setup.candidate() for setup in _setups(request)]
    room = memory - block_bytes
    fitting = [candidate for candidate in candidates if candidate.ram_bytes <= room]
    if not fitting:
        least = min(candidate.ram_bytes for candidate in candidates) + block_bytes
        if block_bytes and (room < 0 or least - block_bytes <= memory):
            raise block_too_large(image, memory, least)
        if request.whole:
            raise _whole_too_large(request, memory, least)
        raise BudgetTooSmall(
            f"The budget of {format_size(memory)} is too small for one tile.",
            f"Use {option('memory', mebibytes(least))} or more, or a smaller {option('tile')}.",
        )
    best = quickest(_prompt(request, fitting) or fitting)
    layout = best.layout
    wanted = request.cache_for(layout.tile, request.halo, layout.workers)
    whole_bytes = request.image_bytes
    if request.context and whole_bytes <= min(DECODED_ONCE_BYTES, DECODED_ONCE_SHARE * memory):
        # What the pass over the whole image decodes is kept for the tiles.
        wanted = max(wanted, whole_bytes)
    # A cache of one row of halo chunks saves decoding them twice.
    bonus = max(0, min(room - best.ram_bytes, wanted - layout.read_cache_bytes))
    peak = best.ram_bytes + block_bytes + min(bonus, request.frames * whole_bytes)
    return replace(
        best,
        layout=replace(layout, read_cache_bytes=layout.read_cache_bytes + bonus),
        ram_bytes=peak,
        device_bytes=peak if on_device else 0,
    )


def quickest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the one with the least memory of those that are hardly slower than the fastest."""
    soon = ALMOST * min(each.seconds for each in candidates)
    quick = [each for each in candidates if each.seconds <= soon]
    return min(quick, key=lambda each: each.ram_bytes + each.device_bytes)


def _setups(request: LayoutRequest) -> list[_TileSetup]:
    """Return all that may be chosen from: workers first, then sides of a tile."""
    computing, invariance = request.computing, request.invariance
    step = tile_step(request.model)
    if request.whole:
        return [_TileSetup(request, one_tile(request.image, request.model), 1, 1, cores(), step)]
    tile, batch = computing.side, computing.tile_batch or 1
    if invariance is TileInvariance.FIXED_TILES:
        # All runs use these tiles, in full: a pixel then has one way to be computed.
        step = tile = -(-FIXED_TILE // step) * step
        batch = 1
    unit = step if invariance is TileInvariance.FIXED_TILES else math.lcm(step, request.tile_unit)
    wanted: tuple[int, ...] = _EDGES if tile is None else (tile,)
    if tile is None and request.halo:
        # Sides that divide one of the image equally: no halo is for a narrow rest. Without a halo,
        # whole chunks matter more.
        sides = (request.image.height, request.image.width)
        parts = (-(-side // n) for side in sides for n in range(2, MOST_ACROSS + 1))
        wanted += tuple(side for side in parts if LEAST_QUICK_TILE < side <= max(_EDGES))
    edges = sorted({-(-edge // unit) * unit for edge in wanted})
    workers = 1 if request.resources.device.is_accelerator else request.resources.workers
    return [
        _TileSetup(request, edge, batch, n, invariance.threads_each(cores(), n), step)
        for n in ([workers] if workers else sorted({1, cores()}, reverse=True))
        for edge in edges
    ]


def _prompt(request: LayoutRequest, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates whose tiles are soon done."""
    most = TILE_SECONDS if request.watched else UNWATCHED_TILE_SECONDS
    prompt = []
    for each in candidates:
        pixels = (each.layout.tile + 2 * request.halo) ** 2
        seconds = request.cost(each.layout.threads).seconds(pixels)
        seconds += pixels * request.frames * request.pixel_bytes * IO_SECONDS_PER_BYTE
        if each.layout.tile <= LEAST_QUICK_TILE or seconds <= most:
            prompt.append(each)
    return prompt


def mebibytes(needed: int) -> str:
    """Return a budget with some room above `needed` bytes."""
    return f"{math.ceil(needed * 1.05 / MIB)}MiB"


def block_too_large(image: Image, memory: int, needed: int) -> BudgetTooSmall:
    """Return the error of an image that is decoded in blocks for which `memory` is too small."""
    return BudgetTooSmall(
        f"{image.name} must be decoded in blocks of {format_size(image.block_bytes)}, for which "
        f"the budget of {format_size(memory)} is too small.",
        f"Use {option('memory', mebibytes(needed))} or more, or save the image with tiles "
        "of 512 × 512, for example with gdal_translate -co TILED=YES.",
    )


def _whole_too_large(request: LayoutRequest, memory: int, needed: int) -> BudgetTooSmall:
    """Return the error of an image that does not fit `memory` in one pass."""
    image = request.image
    shrunk = math.sqrt(memory / needed)
    height, width = (max(1, int(side * shrunk)) for side in (image.height, image.width))
    return BudgetTooSmall(
        f"{request.model.card.id} depends on the whole image: {image.width} × {image.height} pixels "
        f"in one pass do not fit the budget of {format_size(memory)}.",
        f"Use {option('memory', mebibytes(needed))} or more, or an image of about "
        f"{width} × {height} pixels.",
    )


def one_tile(image: Image, model: RestorationModel) -> int:
    """Return the side of a tile that covers the image, and the halo by which a part of it does."""
    step = tile_step(model)
    return -(-max(image.height, image.width) // step) * step


def weight_bytes(model: RestorationModel) -> int:
    """Return the bytes of the weights of a model."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def tile_step(model: RestorationModel) -> int:
    """Return the multiple of pixels that edges of tiles must be."""
    return math.lcm(CELL, model.card.multiple_of)


def box_seen(
    model: SweptModel, target: Region, image: Image, computing: Computing, extent: str
) -> Region:
    """Return the box that a model of sweeps sees: the whole image, or whole tiles, as asked, around `target`."""
    whole = Region(0, 0, image.height, image.width)
    if extent == "image":
        return whole
    step = model.tile or tile_step(model)
    step *= max(1, -(-(computing.side or step) // step))
    return target.align(step).intersect(whole)


def fragmentation(tiles: int) -> float:
    """Return bytes that tiles take of a heap per byte alive; see `FRAGMENTATION`."""
    first, last = FRAGMENTATION
    return first + (last - first) * min(1.0, max(0.0, math.log10(tiles / 40)))


def gaps(tiles: int, *, convolves: bool) -> float:
    """Return the same of tiles of one step; see `GAPS`."""
    first, last, many = GAPS_OF_NETWORKS if convolves else GAPS
    return first + (last - first) * min(1.0, max(0.0, math.log(tiles / 4, many / 4)))


@dataclass(frozen=True)
class _TileSetup:
    """Side of a tile, tiles at once, workers and threads of each: what they take."""

    request: LayoutRequest
    tile: int
    batch: int
    workers: int
    threads: int
    step: int
    """Tile edges are multiples of this many pixels."""

    def candidate(self) -> Candidate:
        """Return the layout with its memory and time."""
        request, cost = self.request, self.request.cost(self.threads)
        image, prepare = request.image, request.prepare
        size = (image.height, image.width)
        least = request.model.least_box
        tiles = tile_sizes(request.targets, size, self.tile, request.halo, self.step, least)
        batch = min(self.batch, tiles.count)
        running = min(self.workers, -(-tiles.count // batch))
        alive = self._alive_bytes(cost, tiles)
        pixel = request.pixel_bytes
        cache = min(request.image_bytes, 4 * image.chunk[0] * image.chunk[1] * pixel * self.workers)
        cache *= request.frames
        context_bytes, blocks, context_seconds = request.context_cost(self.workers)
        reading = context_bytes + max(blocks, prepare.peak_bytes)
        # The overview does not stay beside the tiles.
        peak = STARTING_BYTES + cache + max(reading, prepare.statistics_bytes + alive)
        seconds = cost.seconds(tiles.input_pixels) / running * (SHARED if self.threads > 1 else 1)
        if tiles.count <= 4 * running:
            rounds = -(-tiles.count // running)
            seconds = max(seconds, rounds * cost.seconds(tiles.largest))
        seconds += tiles.count * SECONDS_PER_TILE / running
        read_seconds = request.frames * pixel * IO_SECONDS_PER_BYTE
        # Nothing is computed before the first is read.
        seconds += (tiles.input_pixels / cores() + tiles.largest) * read_seconds
        seconds += context_seconds + prepare.seconds
        layout = Layout(
            tile=self.tile,
            halo=request.halo,
            tile_batch=self.batch,
            tiles=tiles.count,
            workers=self.workers,
            threads=self.threads,
            read_cache_bytes=cache,
            halo_overhead=tiles.input_pixels / max(1, tiles.core_pixels),
            invariance=request.invariance,
        )
        device_bytes = peak if request.resources.device.is_accelerator else 0
        return Candidate(layout, peak, device_bytes, seconds)

    def _alive_bytes(self, cost: Cost, tiles: TileSizes) -> int:
        """Return the bytes of all tiles that are read, computed or written at once."""
        request, largest = self.request, tiles.largest
        pixel, maps_bytes = request.pixel_bytes, request.maps_bytes
        batch = min(self.batch, tiles.count)
        batches = -(-tiles.count // batch)
        running = min(self.workers, batches)
        # Beside those that wait, the reader has one in its hands.
        waiting = min(READ_AHEAD + 1, batches - running)
        core = min(largest, self.tile**2)
        # Validity and an excluding mask, a byte each.
        source = request.frames * (pixel + 2)
        bands, kept = len(request.bands), request.kept_pixel_bytes
        convolves = bool(request.model.card.halo and weight_bytes(request.model))
        scratch = SCRATCH_BYTES if convolves else 0
        # First the model, then what becomes of its change: see `TileWork.run`.
        model = cost.bytes(largest) + scratch + largest * 4 * request.planes
        # Those kept in 16 bits lie beside those of 8 for a moment.
        made = kept + (pixel if request.in_16 else 0) + maps_bytes
        output = largest * 4 * bands + core * (4 * bands + made + FLAGS * request.image.bands)
        tile_bytes = batch * (largest * source + max(model, output))
        queued = waiting * batch * largest * source
        left = kept + pixel // 3 + maps_bytes
        queued += min(WRITE_BEHIND + batch, tiles.count) * core * left
        return int(gaps(tiles.count, convolves=convolves) * (running * tile_bytes + queued))
