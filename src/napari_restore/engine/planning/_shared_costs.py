"""Costs of a run of sweeps that depend neither on batch nor on workers."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.ledger._slab import key_of, written
from napari_restore.engine.machine._budget import MIB
from napari_restore.engine.machine._precision import dtype_of
from napari_restore.engine.planning import _bandwidth
from napari_restore.engine.planning._grid import Grid, bytes_of, count_bytes, tile_bytes
from napari_restore.engine.planning._groups import Group, groups_of
from napari_restore.engine.planning._layout import (
    LayoutRequest,
    image_bytes,
    weight_bytes,
)
from napari_restore.engine.planning._surroundings import Surroundings
from napari_restore.engine.planning._tiles import tile_sizes
from napari_restore.models import Counts, Map, Sweep, SweptModel, WholeStep

LISTED = 4
"""Bytes in memory per byte of lists that are settled: read one by one, joined, sorted by place."""
DISK_SHARE = 0.9
"""Share of the free scratch disk that maps may take."""
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

    def around(self, tile: int) -> SweptRequest:
        """Return the request for tiles of one size: of an area only what its pixels depend on.

        Whole tiles are restored, so `reach` counts from their edges.
        """
        if self.reach is None:
            return self
        restored = bounding_box(self.targets).align(tile)
        return replace(self, box=restored.expand(self.reach).align(tile).intersect(self.box))


class SharedCosts:
    """Costs that depend neither on batch nor on workers, for tiles of one size. Sizes in bytes."""

    def __init__(self, request: SweptRequest, tile: int) -> None:
        model, image, box = request.model, request.image, request.box
        self.tile = tile
        self.steps = model.steps()
        self.groups = groups_of(self.steps)
        self.tiling = tiling = Grid(box, tile, model.padded_to)
        self.rows, self.columns, self.tiles = tiling.rows, tiling.columns, tiling.count
        size = (image.height, image.width)
        # Runs of sweeps restore whole tiles.
        self.decoded = tile_sizes(request.targets, size, tile, 0, tile).count
        self._around = Surroundings(self.steps, tiling, request.targets)
        self.whole = next((s for s in self.steps if isinstance(s, WholeStep)), None)
        self.encoded_tile = self.token_tile = self.tokens = self.grid = self.token_bytes = 0
        self.operations = 0.0
        # Another area of the image may have been restored before.
        self.related = False
        if self.whole is not None:
            self._add_whole(request, self.whole)
        counted = [s.counts for s in self.steps if isinstance(s, Sweep) and s.counts is not None]
        if request.known:
            counted = []
        # Of one sweep at a time.
        each = max((count_bytes(counts, tiling) for counts in counted), default=0)
        self.count_bytes = self.tiles * each
        self.listed = max((self._merged(counts) for counts in counted), default=0)
        self.disk_bytes = self.token_bytes + self.count_bytes
        self.weights = weight_bytes(model) if request.resources.device.is_accelerator else 0
        self.speed = cache(lambda: _bandwidth.probe(existing_folder(request.folder)))
        self.disk_room = cache(lambda: _disk_room(request, self.disk_bytes))

    def _merged(self, counts: Counts) -> int:
        """Return the bytes in memory of merging the counts of all tiles."""
        one = count_bytes(counts, self.tiling)
        if counts.merged_shapes is not None:
            return one + bytes_of(counts.merged_shapes)
        return LISTED * self.tiles * one if callable(counts.shapes) else 0

    def _add_whole(self, request: SweptRequest, step: WholeStep) -> None:
        side = self.tile // step.reads.stride
        self.tokens = self.tiles * side * side
        self.encoded_tile = tile_bytes(step.reads.channels, side)
        # Of the step's output, which is the larger.
        self.token_tile = tile_bytes(step.writes.channels, side, step.margin)
        grid = self.rows * side, self.columns * side
        self.related = is_related(request.folder, self.tiles, request.key)
        if not self.related:
            self.grid = step.peak_bytes(*grid)
            self.operations = sum(step.operations(n, *grid) for n in range(step.layers))
            self.token_bytes = self.tiles * (self.encoded_tile + self.token_tile)

    def map_bytes(self, request: SweptRequest, one: Map) -> int:
        """Return the bytes kept of one tile of a map."""
        dtype = dtype_of(one.dtype or request.computing.kept_dtype)
        return dtype.itemsize * math.prod(one.shape(self.tile))

    def tiles_of(self, request: SweptRequest, number: int) -> int:
        """Return how many tiles a sweep works on: all, where something is left to count."""
        if number == len(self.steps) - 1:
            return self.decoded
        return self._around.tiles_of_step(number) if request.known else self.tiles

    def tiles_read(self, request: SweptRequest, group: Group) -> int:
        """Return of how many tiles the maps of a group are read."""
        if group.everywhere and not request.known:
            return self.tiles
        return self._around.tiles_of_maps([each.name for each in group.maps])

    def pixels(self, number: int) -> int:
        """Return the pixels of a tile of a sweep with its halo."""
        step = self.steps[number]
        assert isinstance(step, Sweep)
        return (self.tile + 2 * step.halo) ** 2


def _disk_room(request: SweptRequest, tokens: int) -> int:
    """Return the bytes that residuals may take on the scratch disk beside tokens and result."""
    free = shutil.disk_usage(existing_folder(request.folder)).free
    if request.folder.exists():
        # Space allocated by an earlier attempt belongs to this run.
        free += sum(file.stat().st_size for file in request.folder.iterdir() if file.is_file())
    room = free - tokens - 2 * image_bytes(request.image)
    return max(0, int(DISK_SHARE * room) - 64 * MIB)


def existing_folder(folder: Path) -> Path:
    """Return the nearest existing folder: none is created before a run begins."""
    while not folder.is_dir():
        folder = folder.parent
    return folder


def is_related(folder: Path, tiles: int, key: str) -> bool:
    """Return whether the bottleneck's complete result for so many tiles lies in `folder`."""
    path = folder / TOKENS
    return key_of(path) == key and written(path) == tiles
