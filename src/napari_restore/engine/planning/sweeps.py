"""Planning of a run of sweeps within its budgets: tiles, batch, workers, and where its maps lie."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean

from napari_restore.engine._region import CELL, Region, bounding_box
from napari_restore.engine.ledger.slab import key_of, written
from napari_restore.engine.machine.budget import MIB
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.planning.costs import SCRATCH_BYTES, SweepCosts, calibrate_sweeps
from napari_restore.engine.planning.decided import Layout, StoredMaps, SweptLayout, bytes_at_peak
from napari_restore.engine.planning.layout import (
    IO_SECONDS_PER_BYTE,
    READ_AHEAD,
    SECONDS_PER_TILE,
    WRITE_BEHIND,
    Candidate,
    LayoutRequest,
    fragmentation,
    mebibytes,
    quickest,
    weight_bytes,
)
from napari_restore.engine.planning.map_layout import (
    Demand,
    Group,
    Room,
    batch_of,
    groups_of,
    network_bytes,
    split,
)
from napari_restore.engine.planning.tiles import (
    Grid,
    Surroundings,
    bytes_of,
    count_bytes,
    tile_bytes,
    tile_sizes,
)
from napari_restore.errors import (
    BadModel,
    BadParameter,
    BudgetTooSmall,
    Message,
    ResourceError,
    option,
)
from napari_restore.models import Counts, Map, Steps, SweptModel, WholeStep

SIDES = (128, 256, 512, 1024, 2048)
"""Sides of tiles to choose from where the model leaves it open."""
MOST_SHARED = 1024
"""Largest side to choose from where workers of a cluster share the tiles of each sweep."""
LEAST_GAIN = 0.9
"""Tiles in parallel must be faster than one at a time by this factor to be worth their memory."""
LISTED = 4
"""Bytes in memory per byte of lists that are counted: read one by one, joined, sorted by place."""
DISK_SHARE = 0.9
"""Share of the free scratch disk that maps may take."""
CUDA_SCRATCH_BYTES = 64 * MIB
"""What cuBLAS and cuDNN keep for each worker that computes (measured on one H200: 45 to 70 MiB)."""
CUDA_GAPS = 1.1
"""What CUDA's allocator reserves per byte of tensors (measured: 1.03 to 1.3)."""
TOKENS = "tokens"
"""Name of the file of the bottleneck's result in the folder of a run."""


@dataclass(frozen=True, kw_only=True)
class SweptRequest(LayoutRequest):
    """Input of the plan of a run of sweeps. Sizes in bytes."""

    model: SweptModel
    box: Region
    """Pixels that the model sees."""
    folder: Path
    """Folder of tokens and maps, perhaps with those of an earlier run."""
    key: str
    """Key of the run: tokens of another one are of no use."""
    reach: int | None = None
    """Halo of all sweeps together, where nothing is left to count."""

    @property
    def known(self) -> bool:
        """Whether nothing is left to count."""
        return self.reach is not None

    def costs(self, threads: int) -> SweepCosts:
        """Return the costs of the sweeps for so many threads per worker; cached."""
        device = self.resources.device
        return calibrate_sweeps(self.model, device, threads, self.computing.precision)

    def around(self, tile: int) -> SweptRequest:
        """Return the request for tiles of one size: of an area only what its pixels depend on."""
        if self.reach is None:
            return self
        # Whole tiles are restored, so `reach` counts from their edges.
        restored = bounding_box(self.targets).align(tile)
        return replace(self, box=restored.expand(self.reach).align(tile).intersect(self.box))


def lay_out_sweeps(request: SweptRequest) -> Candidate:
    """Return the fastest run within the budgets; raises `BudgetTooSmall` naming the smallest that would do."""
    _check_tiles(request.model, request.computing.side)
    choices: list[Candidate] = []
    errors: list[ResourceError] = []
    for tile in _tiles(request):
        tiling = _Tiling(request.around(tile), tile)
        for workers in _workers(request):
            threads = request.invariance.threads_each(cores(), workers)
            known = request.costs(threads)
            for wanted in _batches(request, known):
                batch = min(wanted, tiling.grid.count)
                running = min(workers, -(-tiling.grid.count // batch))
                try:
                    setup = _SweepSetup(tiling, known, running, threads, batch)
                    choices.append(setup.candidate())
                except ResourceError as error:
                    # A named tier has too little room beside a batch of this size.
                    errors.append(error)
    if not choices:
        raise errors[-1]
    memory, device_memory = request.resources.memory, request.resources.device_memory
    fitting = [
        each for each in choices if each.ram_bytes <= memory and each.device_bytes <= device_memory
    ]
    if fitting:
        best = quickest(fitting)
        return replace(best, notes=tuple(_notes(request, best)))
    least = min(choices, key=lambda each: (each.device_bytes > device_memory, each.ram_bytes))
    assert least.staged is not None
    if least.device_bytes > device_memory:
        needed, budget = least.device_bytes, "device_memory"
    else:
        needed, budget = least.ram_bytes, "memory"
    raise BudgetTooSmall(
        f"The budget is too small for this model's {least.staged.tokens} tokens and one tile."
        if least.staged.tokens
        else "The budget is too small for one tile of this model.",
        f"Use {option(budget, mebibytes(needed))} or more, "
        f"or restore a region with {option('extent', 'region')}.",
    )


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


class _Tiling:
    """Costs that depend neither on batch nor on workers, for tiles of one size. Sizes in bytes."""

    def __init__(self, request: SweptRequest, tile: int) -> None:
        model, image = request.model, request.image
        self.request, self.tile = request, tile
        self.steps = model.ordered_steps
        self.groups = list(groups_of(self.steps))
        self.grid = Grid(request.box, tile, model.padded_to)
        # Runs of sweeps restore whole tiles.
        size = (image.height, image.width)
        self.decoded = tile_sizes(request.targets, size, tile, 0, tile).count
        self._around = Surroundings(self.steps, self.grid, request.targets)
        self.token_tile = self.tokens = self.whole_bytes = 0
        self.disk_bytes = 0
        """Of tokens and counts."""
        self.operations = 0.0
        # Another area of the image may have been restored before.
        self.related = False
        if self.steps.whole is not None:
            self._add_whole(self.steps.whole)
        counting = [each for _, each in self.steps.counting.values()]
        counted = [] if request.known else counting
        # Of one sweep at a time.
        each = max((count_bytes(counts, self.grid) for counts in counted), default=0)
        self.disk_bytes += self.grid.count * each
        self.listed = max((self._merged(counts) for counts in counted), default=0)
        size = self.grid.box.shape
        self.finalizing = max((each.finalize_bytes(size)[0] for each in counted), default=0)
        self.statistics_bytes = sum(each.finalize_bytes(size)[1] for each in counting)
        self.weights = weight_bytes(model) if request.resources.device.is_accelerator else 0
        self.disk_room = cache(self._disk_room)

    def _merged(self, counts: Counts) -> int:
        """Return the bytes in memory of merging the counts of all tiles."""
        one = count_bytes(counts, self.grid)
        if counts.merged_shapes is not None:
            return one + bytes_of(counts.merged_shapes)
        return LISTED * self.grid.count * one if callable(counts.shapes) else 0

    def _add_whole(self, step: WholeStep) -> None:
        tiles, side = self.grid.count, self.tile // step.reads.stride
        self.tokens = tiles * side * side
        # Of the step's output, which is the larger.
        self.token_tile = tile_bytes(step.writes.channels, side, step.margin)
        cells = self.grid.map_size(step.reads.stride)
        # Whether the bottleneck's complete result is there.
        path = self.request.folder / TOKENS
        self.related = key_of(path) == self.request.key and written(path) == tiles
        if not self.related:
            self.whole_bytes = step.peak_bytes(*cells)
            self.operations = sum(step.operations(n, *cells) for n in range(step.layers))
            self.disk_bytes = tiles * (tile_bytes(step.reads.channels, side) + self.token_tile)

    def _disk_room(self) -> int:
        """Return the bytes that maps may take on the scratch disk beside tokens and result."""
        folder = self.request.folder
        free = shutil.disk_usage(existing_folder(folder)).free
        if folder.exists():
            # Space allocated by an earlier attempt belongs to this run.
            free += sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        room = free - self.disk_bytes - 2 * self.request.image_bytes
        return max(0, int(DISK_SHARE * room) - 64 * MIB)

    def map_bytes(self, one: Map) -> int:
        """Return the bytes kept of one tile of a map."""
        if one.name in self.steps.whole_maps:
            return self.token_tile
        dtype = dtype_of(one.dtype or self.request.computing.kept_dtype)
        return dtype.itemsize * math.prod(one.shape(self.tile))

    def tiles_of(self, number: int) -> int:
        """Return how many tiles a sweep works on: all, where something is left to count."""
        if number == len(self.steps) - 1:
            return self.decoded
        known = self.request.known
        return self._around.tiles_of_step(number) if known else self.grid.count

    def tiles_read(self, group: Group) -> int:
        """Return of how many tiles the maps of a group are read."""
        if group.everywhere and not self.request.known:
            return self.grid.count
        return self._around.tiles_of_maps([each.name for each in group.maps])

    def pixels(self, number: int) -> int:
        """Return the pixels of a tile of a sweep with its halo."""
        return int((self.tile + 2 * self.steps[number].halo) ** 2)

    @property
    def halo_overhead(self) -> float:
        """Pixels that sweeps over all tiles compute, with halos and padding, per pixel of the image."""
        halos = [step.halo for step in self.steps.sweeps.values()]
        return fmean(map(self.grid.pixels_around, halos)) / self.grid.box.pixels


@dataclass(frozen=True)
class _SweepSetup:
    """Tiles at once, workers and threads of each: what sweeps take, and the room beside for maps."""

    tiling: _Tiling
    cost: SweepCosts
    workers: int
    threads: int
    batch: int
    again: frozenset[str] = frozenset()
    """Maps that are made again, from those before them."""

    @property
    def request(self) -> SweptRequest:
        return self.tiling.request

    @property
    def steps(self) -> Steps:
        return self.tiling.steps

    @property
    def on_device(self) -> bool:
        return self.request.resources.device.is_accelerator

    def candidate(self) -> Candidate:
        """Return the layout with its cost, maps where they fit; raises `ResourceError`."""
        maps, step_seconds = self._stored_maps()
        lost = [each for each in maps if not each.is_complete]
        again = frozenset(name for each in lost for name in (*each.names, *each.again))
        if not again <= self.again:
            # Making them again takes memory that others were given.
            return replace(self, again=self.again | again).candidate()
        request, tiling, steps = self.request, self.tiling, self.steps
        step_seconds[0] += self._context[2] + request.prepare.seconds
        for number, finalizing in self.cost.finalizing.items():
            step_seconds[number] += 0.0 if request.known else finalizing.seconds
        if steps.whole is not None:
            whole_seconds = tiling.operations * self.cost.seconds_per_operation
            step_seconds[steps.index(steps.whole)] = whole_seconds
        kept = bytes_at_peak(maps)
        staged = SweptLayout(
            box=request.box,
            rows=tiling.grid.rows,
            columns=tiling.grid.columns,
            tokens=tiling.tokens,
            maps=tuple(maps),
            residual_dtype=request.computing.kept_dtype,
            bottleneck_on_host=self._whole_on_host,
            disk_bytes=tiling.disk_bytes + kept["disk"],
            phase_seconds=dict(zip((step.name for step in steps), step_seconds, strict=True)),
            whole=None if steps.whole is None else steps.whole.name,
            known=request.known,
        )
        layout = Layout(
            tile=tiling.tile,
            halo=request.halo,
            tile_batch=self.batch,
            tiles=tiling.decoded,
            workers=self.workers,
            threads=self.threads,
            read_cache_bytes=self._cache,
            halo_overhead=tiling.halo_overhead,
            invariance=request.invariance,
        )
        return Candidate(
            layout,
            self._ram + kept["ram"],
            int(self._device_gaps * (self._device + kept["device"])),
            staged.seconds,
            staged,
        )

    # -- memory without maps -----------------------------------------------------------

    @cached_property
    def _cache(self) -> int:
        halo = max(step.halo for step in self.steps if step.sees_image)
        return self.request.cache_for(self.tiling.tile, halo, self.workers)

    @cached_property
    def _context(self) -> tuple[int, int, float]:
        return self.request.context_cost(self.workers)

    @property
    def _whole_on_host(self) -> bool:
        device_memory = self.request.resources.device_memory
        needed = self.tiling.weights + self.tiling.whole_bytes
        return self.on_device and self._device_gaps * needed > device_memory

    @property
    def _device_gaps(self) -> float:
        return CUDA_GAPS if self.request.resources.device.is_cuda else 1.0

    @cached_property
    def _device(self) -> int:
        if not self.on_device:
            return 0
        whole = 0 if self._whole_on_host else self.tiling.whole_bytes
        finalizing = 0 if self.request.known else self.cost.finalizing_bytes + self.tiling.listed
        scratch = CUDA_SCRATCH_BYTES if self.request.resources.device.is_cuda else 0
        tiles = self.workers * (scratch + max(map(self._tiles_on_device, self.cost.sweeps)))
        kept = self.cost.statistics_bytes + self.tiling.statistics_bytes
        return self.tiling.weights + kept + max(tiles, whole, finalizing)

    @cached_property
    def _ram(self) -> int:
        prepare, on_device = self.request.prepare, self.on_device
        whole = 0 if on_device and not self._whole_on_host else self.tiling.whole_bytes
        finalizing = self.tiling.listed + self.tiling.finalizing
        if not (on_device or self.request.known):
            finalizing += self.cost.finalizing_bytes
        swell = 1.0 if on_device else fragmentation(self.tiling.grid.count)
        tiles = int(swell * max(map(self._tiles_on_host, self.cost.sweeps)))
        context_bytes, block_bytes, _ = self._context
        standing = context_bytes + prepare.statistics_bytes + self._cache
        standing += self.cost.statistics_bytes + self.tiling.statistics_bytes
        return standing + max(tiles, block_bytes, prepare.peak_bytes, whole, finalizing)

    @cached_property
    def _room(self) -> Room:
        resources, shared = self.request.resources, self.request.shared
        device = int(resources.device_memory / self._device_gaps) - self._device
        return Room(
            has_device=self.on_device,
            # What one machine has in memory is not seen by others.
            device=device if self.on_device and not shared else 0,
            ram=0 if shared else resources.memory - self._ram,
            disk=self.tiling.disk_room,
        )

    def _computed(self, number: int, around: int = 0) -> int:
        """Return the bytes of computing a batch, or maps `around` pixels of a tile that are made again for it."""
        sweep = self.steps.sweeps[number]
        around = -(-around // sweep.block) * sweep.block
        own, around = around == 0, around + sweep.halo
        # What does not follow from a tile's own pixels is made again tile by tile.
        batch = self.batch if own or sweep.is_shallow else 1
        most = self.cost.sweeps[number].bytes(batch * (self.tiling.tile + 2 * around) ** 2)
        for other, writer in self.steps.sweeps.items():
            if other >= number:
                break
            names = {each.name for each in writer.writes}.intersection(sweep.reads)
            if names and (writer.is_shallow or names & self.again):
                most = max(most, self._computed(other, around))
        return most

    def _maps(self, number: int) -> tuple[int, int]:
        """Return the bytes of the maps that a tile reads with its halo, and that it leaves."""
        tiling, sweep = self.tiling, self.steps.sweeps[number]
        swell = tiling.pixels(number) / tiling.tile**2
        maps = [self.steps.maps[name] for name in sweep.reads]
        # Those taken as a whole come with their margin, and no halo.
        read = sum(int(swell * tiling.map_bytes(each)) for each in maps)
        return read, sum(map(tiling.map_bytes, sweep.writes))

    def _tiles_on_device(self, number: int) -> int:
        read, left = self._maps(number)
        model_input = self.tiling.pixels(number) * 4 * self.request.planes
        copied = 2 * max(read if number == len(self.steps) - 1 else left, left)
        return self._computed(number) + self.batch * (model_input + copied)

    def _tiles_on_host(self, number: int) -> int:
        request, tiling, batch, workers = self.request, self.tiling, self.batch, self.workers
        read, left = self._maps(number)
        counts = self.steps[number].counts
        pixels, pixel = tiling.pixels(number), request.pixel_bytes
        # Validity and an excluding mask, a byte each.
        source = pixels * request.frames * (pixel + 2)
        model_input = pixels * 4 * request.planes
        if number == len(self.steps) - 1:
            kept = request.kept_pixel_bytes + pixel // 3
            left = tiling.tile**2 * (kept + request.maps_bytes)
        if counts is not None:
            left += count_bytes(counts, tiling.grid)
        computed = 0
        if not self.on_device:
            computed = workers * (self._computed(number) + SCRATCH_BYTES + batch * read)
        host = workers * batch * (source + 2 * model_input)
        queued = READ_AHEAD * batch * (source + read)
        return computed + host + queued + (WRITE_BEHIND + batch) * left

    # -- seconds, and maps ---------------------------------------------------------------

    def _seconds(self, number: int, first: bool = False) -> float:
        """Return the seconds of a sweep per tile, all workers together; of its `first` map alone."""
        # Cores work in parallel, batches on a device one after another.
        lanes = 1 if self.on_device else self.workers
        part = (self.cost.first if first else self.cost.sweeps)[number]
        seconds = part.seconds(self.tiling.pixels(number), self.batch) / lanes
        last = number == len(self.steps) - 1 and not first
        return seconds + (SECONDS_PER_TILE / self.workers if last else 0.0)

    def _reading(self, number: int) -> float:
        """Return the seconds of reading a tile of a sweep."""
        pixel = self.request.frames * self.request.pixel_bytes * IO_SECONDS_PER_BYTE / cores()
        return self.tiling.pixels(number) * pixel if self.steps[number].sees_image else 0.0

    def _stored_maps(self) -> tuple[list[StoredMaps], list[float]]:
        """Return where the maps lie, and the seconds of each step."""
        # Maps take their places in the order in which they are written, each until its last reader
        # is done. What finds no room is made again from the maps before it, which stay as long.
        request, tiling, steps = self.request, self.tiling, self.steps
        of_sweep = {number: self._seconds(number) for number in self.cost.sweeps}
        spent = [0.0] * len(steps)
        for number, each in of_sweep.items():
            if not (tiling.related and number < len(steps) - 1):
                spent[number] = tiling.tiles_of(number) * (each + self._reading(number))
        placed: list[StoredMaps] = []
        again: dict[str, float] = {}
        for group in tiling.groups:
            tiles, writer = tiling.tiles_read(group), steps.sweeps[group.first]
            seconds_again = of_sweep[group.first] * group.readers
            seconds_again += sum(again.get(name, 0.0) for name in writer.reads)
            divided = len(group.maps) > 1 and group.first in self.cost.first
            demand = Demand(
                tiles,
                tuple(map(tiling.map_bytes, group.maps)),
                of_sweep[group.first],
                self._seconds(group.first, first=True) if divided else None,
                of_sweep[group.last],
                seconds_again,
            )
            left = self._room.without(bytes_at_peak(placed, group.first, group.last))
            wanted = "recompute" if tiling.related else request.computing.residuals
            chosen = split(demand, left, wanted)
            names = [each.name for each in group.maps]
            kept = {"none": len(names), "first": len(names) - 1, "all": 0}[chosen.recompute]
            stored = StoredMaps(
                names=tuple(names[len(names) - kept :]),
                again=tuple(names[: len(names) - kept]),
                file=group.file,
                dtype=group.maps[0].dtype or request.computing.kept_dtype,
                slots=chosen.slots,
                record_bytes=chosen.record_bytes,
                tiles=tiles,
                everywhere=group.everywhere and not request.known,
                first=group.first,
                last=group.last,
            )
            if not stored.is_complete:
                _keep_longer(placed, steps, writer.reads, group.last)
            placed.append(stored)
            share = 1.0 - chosen.slots.total / tiles if tiles else 0.0
            again |= dict.fromkeys(names, share * seconds_again)
            if not tiling.related:
                spent[group.first] += chosen.encode_seconds - tiles * demand.encode_seconds
            spent[group.last] += chosen.decode_seconds - tiles * demand.decode_seconds
        return placed, spent


def _keep_longer(placed: list[StoredMaps], steps: Steps, names: tuple[str, ...], last: int) -> None:
    """Keep maps until step `last`, and what they are made again from: others are made from them."""
    for at, each in enumerate(placed):
        if set(names).intersection((*each.names, *each.again)) and each.last < last:
            placed[at] = replace(each, last=last)
            if not each.is_complete:
                _keep_longer(placed, steps, steps.sweeps[each.first].reads, last)


def existing_folder(folder: Path) -> Path:
    """Return the nearest existing folder: none is created before a run begins."""
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _check_tiles(model: SweptModel, tile: int | None) -> None:
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


def _notes(request: SweptRequest, chosen: Candidate) -> Iterator[str]:
    """Yield the notes on a run of sweeps."""
    image, staged = request.image, chosen.staged
    assert staged is not None
    if not (staged.known or staged.box == (0, 0, image.height, image.width)):
        # The model does not see the whole image.
        yield Message(
            "A draft: the model knows only the region, not the whole image "
            f"({option('extent', 'region')})."
        )
    if request.shared:
        yield network_bytes(staged, request.model, chosen.layout.tile).note()
