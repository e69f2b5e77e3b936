"""Planning of the levels of an image, and building those that its file lacks."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import replacing
from napari_restore.errors import Cancelled, UnreadableImage
from napari_restore.images._base import ImageBase
from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Level, Source, chunk_grid, chunk_shape
from napari_restore.images.cache._disk_space import no_space_as_error
from napari_restore.images.cache._folder import OpenEntry
from napari_restore.images.cache._level_store import DamagedStore
from napari_restore.images.levels._cached import CachedSource, LevelsFrom, OnLanded, Shared
from napari_restore.images.levels._reduce import halve, level_sizes
from napari_restore.images.levels._row_pyramid import LEAST_ROWS, RowPyramid, row_levels

CHUNK = 512
ENOUGH = 2048
"""Files whose smallest level is no longer than this on its long side need no further levels."""

_running: weakref.WeakKeyDictionary[ImageBase, StreamedSource] = weakref.WeakKeyDictionary()
"""Streams of images that are not complete yet, and those that became their source."""


def planned_levels(reader: Reader) -> tuple[Level, ...]:
    """Return the file's own levels, and those to be built below its smallest."""
    stored = reader.levels
    smallest = stored[-1]
    if reader.random_access and max(smallest.height, smallest.width) <= ENOUGH:
        return stored
    sizes = level_sizes(smallest.height, smallest.width)[1:]
    return (*stored, *(Level(h, w, min(h, CHUNK), min(w, CHUNK)) for h, w in sizes))


def build_pyramid(
    image: ImageBase,
    on_chunk: OnLanded | None = None,
    cancelled: Callable[[], bool] | None = None,
    centre: tuple[float, float] | None = None,
) -> None:
    """Give `image` the levels it plans but does not store, building what the cache lacks.

    They can be read at once, as zeros where nothing is written yet. An untiled file is streamed
    instead, which makes all levels.
    """
    if not image.source.random_access:
        stream(image, on_chunk, cancelled)
        return
    if len(image.source.levels) >= len(image.planned_levels):
        return
    shown = image.pyramid
    if not isinstance(shown, LevelsFrom) or not isinstance(shown.source, PyramidSource):
        added = PyramidSource(image.source, image.fingerprint, nodata=image.nodata)
        shown = image.pyramid = LevelsFrom(added, len(image.source.levels))
    pyramid = shown.source
    assert isinstance(pyramid, PyramidSource)
    pyramid.build(on_chunk, cancelled, centre)


def attach_pyramid(image: ImageBase) -> bool:
    """Give `image` the levels it does not store if the cache has all of them; build nothing."""
    if image.pyramid is not None or len(image.source.levels) >= len(image.planned_levels):
        return True
    pyramid = PyramidSource(
        image.source, image.fingerprint, nodata=image.nodata, only_if_complete=True
    )
    if pyramid.missing:
        return False
    image.pyramid = LevelsFrom(pyramid, len(image.source.levels))
    return True


def stream(
    image: ImageBase,
    on_band: OnLanded | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Stream the untiled file behind `image` unless the cache has it, then read from there.

    While it runs, the coarser levels can be read, and `stream_of` has the part of level 0 decoded
    so far. Raises `Cancelled`, `DiskFull`, `UnreadableImage`.
    """
    running = _stream_behind(image)
    image.pyramid = LevelsFrom(running, 1) if len(running.levels) > 1 else None
    running.build(on_band, cancelled)
    image.source, image.pyramid = running, None


def is_streamed(image: ImageBase) -> bool:
    """Return whether `stream` has nothing to do: the file is tiled, or completely in the cache."""
    return image.source.random_access or _stream_behind(image).complete


def _stream_behind(image: ImageBase) -> StreamedSource:
    """Return the stream of the untiled file behind `image`, begun or not."""
    running = _running.get(image)
    if running is None:
        new = StreamedSource(image.reader, image.fingerprint, nodata=image.nodata)
        # The caller may be another thread than the one that streams.
        running = _running.setdefault(image, new)
    return running


def stream_of(image: ImageBase) -> StreamedSource | None:
    """Return the stream of the untiled file behind `image`; None before it begins."""
    return _running.get(image)


SMALLEST = 512
"""The coarsest level's long side is at most this."""
BLOCK_SIDE = 2048
BLOCK_BYTES = 64 << 20
"""Most bytes of a super-block's pixels, by a shorter side if need be."""
CANCELLED = "Building the overviews was cancelled."


class PyramidSource(CachedSource):
    """`base` with every level down to `SMALLEST`; unbuilt chunks read as 0 and invalid.

    Levels that `base` stores itself are passed through, only coarser ones are
    built. All pyramid sources of one file in one process share what is built.
    """

    def __init__(
        self,
        base: Source,
        fingerprint: str,
        *,
        fill: float | None = None,
        nodata: float | None = None,
        only_if_complete: bool = False,
    ) -> None:
        super().__init__(base, fill=fill, nodata=nodata)
        self.random_access = base.random_access
        self.first = len(base.levels)
        top = base.levels[-1]
        self.block = _block_side(base)
        sizes = level_sizes(top.height, top.width, SMALLEST)[1:]
        added = [
            Level(height, width, min(CHUNK, self.block >> step), min(CHUNK, self.block >> step))
            for step, (height, width) in enumerate(sizes, 1)
        ]
        self.levels = (*base.levels, *added)
        self.missing = bool(added) and only_if_complete and not _Built.is_whole(self, fingerprint)
        """Whether the cache lacks a level although only a complete one was requested."""
        self._built = _Built.share(self, fingerprint) if added and not self.missing else None

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(row, column) of all super-blocks."""
        top = self.levels[self.first - 1]
        return chunk_grid(Level(top.height, top.width, self.block, self.block))

    @property
    def complete(self) -> bool:
        """Whether every chunk of every level is there."""
        return self._built is None or bool(self._built.done.all())

    @property
    def built_share(self) -> float:
        """Share of finished super-blocks, 0 … 1."""
        return 1.0 if self._built is None else float(self._built.done.mean())

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk has pixels; chunks of the file's own levels always do."""
        if self._built is None or level < self.first:
            return True
        return bool(self._built.done[self._owner(level, row, column)])

    def build(
        self,
        on_block: OnLanded | None = None,
        cancelled: Callable[[], bool] | None = None,
        centre: tuple[float, float] | None = None,
        workers: int = 2,
    ) -> None:
        """Build what is missing, from `centre` (y, x in level-0 pixels) outwards.

        `on_block` is called in the calling thread. What was finished before a
        cancellation stays and is not built again. Raises `Cancelled`, `DiskFull`.
        """
        if self._built is None:
            return
        with self._built.building:
            todo = [block for block in self.blocks if not self._built.done[block]]
            todo.sort(key=self._distance_from(centre))
            done, total = self._built.done.size - len(todo), self._built.done.size
            for block in self._run(todo, workers, cancelled):
                done += 1
                if on_block is not None:
                    on_block(self.box_of(block), done, total)
            self._built.entry.finish()

    def box_of(self, block: tuple[int, int]) -> Box:
        """Return the level-0 box of a super-block."""
        first, top = self.levels[0], self.levels[self.first - 1]
        fy, fx = first.height / top.height, first.width / top.width
        y0, x0 = block[0] * self.block, block[1] * self.block
        y1, x1 = min(y0 + self.block, top.height), min(x0 + self.block, top.width)
        return round(y0 * fy), round(x0 * fx), round(y1 * fy), round(x1 * fx)

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return a chunk; zeros while it is not built. A damaged one is built again."""
        if level < self.first:
            return self.base.read_chunk(level, row, column)
        return self._from_store("read", level, row, column, (self.bands,), self.dtype)

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return a chunk's validity; all invalid while it is not built, if anything may be."""
        if level < self.first:
            return self.base.read_valid_chunk(level, row, column, pixels)
        if not self.may_be_invalid:
            return np.ones(pixels.shape[:2], bool)
        return self._from_store("read_valid", level, row, column, (), np.dtype(bool))

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        """Return rows of level 0."""
        return self.base.read_rows(y0, y1)

    def about(self, fingerprint: str) -> dict[str, Any]:
        """Return the description of the cache entry that serves this source."""
        return super().about(fingerprint) | {"first": self.first}

    def _from_store(
        self, method: str, level: int, row: int, column: int, tail: tuple[int, ...], dtype: Any
    ) -> npt.NDArray[Any]:
        assert self._built is not None
        if not self.is_built(level, row, column):
            return np.zeros((*chunk_shape(self.levels[level], row, column), *tail), dtype)
        read = getattr(self._built.store, method)
        try:
            chunk: npt.NDArray[Any] = read(level, row, column)
        except DamagedStore:
            self._build_block(self._owner(level, row, column))
            chunk = read(level, row, column)
        return chunk

    def _owner(self, level: int, row: int, column: int) -> tuple[int, int]:
        """Return the super-block of a chunk."""
        side = self.block >> (level - self.first + 1)
        chunk = self.levels[level].chunk_height
        return row * chunk // side, column * chunk // side

    def _distance_from(
        self, centre: tuple[float, float] | None
    ) -> Callable[[tuple[int, int]], float]:
        first = self.levels[0]
        y, x = centre if centre is not None else (first.height / 2, first.width / 2)

        def distance(block: tuple[int, int]) -> float:
            y0, x0, y1, x1 = self.box_of(block)
            return math.hypot((y0 + y1) / 2 - y, (x0 + x1) / 2 - x)

        return distance

    def _run(
        self,
        todo: list[tuple[int, int]],
        workers: int,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[tuple[int, int]]:
        """Build super-blocks in order on `workers` threads, yielding each when finished."""
        waiting = iter(todo)
        running: dict[Future[None], tuple[int, int]] = {}
        stopped = threading.Event()
        with ThreadPoolExecutor(workers, "pyramid") as pool:
            try:
                while True:
                    if cancelled is not None and cancelled():
                        raise Cancelled(CANCELLED)
                    while len(running) < workers and (block := next(waiting, None)) is not None:
                        running[pool.submit(self._build_block, block, stopped)] = block
                    if not running:
                        return
                    finished, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                    for future in finished:
                        block = running.pop(future)
                        future.result()
                        yield block
            finally:
                # A block of a long, narrow image may have millions of chunks.
                stopped.set()
                for future in running:
                    future.cancel()

    def _build_block(self, block: tuple[int, int], stopped: threading.Event | None = None) -> None:
        assert self._built is not None
        pixels, valid = self._read_block(block, stopped)
        for level in range(self.first, len(self.levels)):
            pixels, valid = halve(pixels, valid, fill=self._fill, nodata=self._nodata)
            side = self.block >> (level - self.first + 1)
            per_side = side // self.levels[level].chunk_height
            row, column = block[0] * per_side, block[1] * per_side
            self._built.store.write(level, row, column, pixels, valid)
        self._built.mark(block)

    def _read_block(
        self, block: tuple[int, int], stopped: threading.Event | None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Return the pixels of a super-block, joined from the file's own chunks.

        Raises `Cancelled` between two chunks once it is `stopped`.
        """
        number = self.first - 1
        top = self.levels[number]
        y0, x0 = block[0] * self.block, block[1] * self.block
        y1, x1 = min(y0 + self.block, top.height), min(x0 + self.block, top.width)
        pixels = np.empty((y1 - y0, x1 - x0, self.bands), self.dtype)
        valid = np.empty(pixels.shape[:2], bool) if self.may_be_invalid else None
        for row in range(y0 // top.chunk_height, -(-y1 // top.chunk_height)):
            for column in range(x0 // top.chunk_width, -(-x1 // top.chunk_width)):
                if stopped is not None and stopped.is_set():
                    raise Cancelled(CANCELLED)
                chunk = self.base.read_chunk(number, row, column)
                cy, cx = row * top.chunk_height, column * top.chunk_width
                ya, xa = max(y0, cy), max(x0, cx)
                yb, xb = min(y1, cy + chunk.shape[0]), min(x1, cx + chunk.shape[1])
                source = np.s_[ya - cy : yb - cy, xa - cx : xb - cx]
                target = np.s_[ya - y0 : yb - y0, xa - x0 : xb - x0]
                pixels[target] = chunk[source]
                if valid is not None:
                    flags = self.base.read_valid_chunk(number, row, column, chunk)
                    valid[target] = flags[source]
        return pixels, valid


class _Built(Shared):
    """Built levels of one file: the store, the map of finished super-blocks, the lock."""

    KIND: ClassVar[str] = "pyramids"

    def __init__(self, source: PyramidSource, entry: OpenEntry) -> None:
        top = source.levels[source.first - 1]
        grid = -(-top.height // source.block), -(-top.width // source.block)
        self._marking = threading.Lock()
        self._map = entry.path / "built.bin"
        super().__init__(source, entry)
        self.done = np.zeros(grid, bool)
        try:
            flags = np.frombuffer(self._map.read_bytes(), np.uint8)
        except OSError:
            flags = np.zeros(0, np.uint8)
        if flags.size == self.done.size and flags.max(initial=0) <= 1:
            self.done |= flags.reshape(grid).astype(bool)

    def mark(self, block: tuple[int, int]) -> None:
        """Mark a super-block as finished; its chunks are on disk before its mark is."""
        with self._marking, no_space_as_error(self._map):
            self.done[block] = True
            with replacing(self._map) as part:
                part.write_bytes(self.done.tobytes())


def _block_side(base: Source) -> int:
    """Return a power of two, at least a chunk of level 1 and, if memory allows, of the file."""
    top = base.levels[-1]
    pixel = base.bands * base.dtype.itemsize
    side = BLOCK_SIDE
    while side < max(top.chunk_height, top.chunk_width) and (2 * side) ** 2 * pixel <= BLOCK_BYTES:
        side *= 2
    while side > CHUNK and side**2 * pixel > BLOCK_BYTES:
        side //= 2
    steps = len(level_sizes(top.height, top.width, SMALLEST)) - 1
    return max(side, 1 << steps)


class StreamedSource(CachedSource):
    """`base` as tiles with all levels, from the cache; rows not yet decoded read as 0.

    Parameters
    ----------
    base
        Read once from top to bottom with `read_rows`.
    fingerprint
        Identifies the file.
    nodata, fill
        As for `halve`; `fill` is nodata, else NaN for floats, else 0.
    """

    random_access = True
    first = 0

    def __init__(
        self,
        base: Source,
        fingerprint: str,
        *,
        fill: float | None = None,
        nodata: float | None = None,
    ) -> None:
        super().__init__(base, fill=fill, nodata=nodata)
        height, width = base.levels[0].height, base.levels[0].width
        whole = row_levels(height, width, self.bands * self.dtype.itemsize)
        # Lower chunks in coarser levels: each band of rows is written to nearly all levels at once,
        # so that a coarse one is shown before most of the file is decoded.
        self.levels = tuple(
            level._replace(chunk_height=max(LEAST_ROWS, level.chunk_height >> number))
            for number, level in enumerate(whole)
        )
        self._landed = _Landed.share(self, fingerprint)

    @property
    def complete(self) -> bool:
        """Whether every row of every level is there."""
        return self._landed.entry.complete

    @property
    def built_share(self) -> float:
        """Share of decoded rows, 0 … 1."""
        return self._landed.rows[0] / self.levels[0].height

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk is written."""
        top = row * self.levels[level].chunk_height
        bottom = min(top + self.levels[level].chunk_height, self.levels[level].height)
        return self._landed.rows[level] >= bottom

    def build(
        self, on_band: OnLanded | None = None, cancelled: Callable[[], bool] | None = None
    ) -> None:
        """Stream the file; return at once if that was done before.

        `on_band` is called in the calling thread, `cancelled` called between bands. Raises
        `Cancelled`, `DiskFull`, `UnreadableImage`; then nothing counts as decoded.
        """
        with self._landed.building:
            if not self.complete:
                self._stream(on_band, cancelled)

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return a chunk; zeros before it is written. After damage the file is streamed again."""
        return self._read("read", level, row, column, (self.bands,), self.dtype)

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return a chunk's validity; all invalid before it is written, if anything may be."""
        if not self.may_be_invalid:
            return np.ones(pixels.shape[:2], bool)
        return self._read("read_valid", level, row, column, (), np.dtype(bool))

    def _read(
        self, method: str, level: int, row: int, column: int, tail: tuple[int, ...], dtype: Any
    ) -> npt.NDArray[Any]:
        if not self.is_built(level, row, column):
            return np.zeros((*chunk_shape(self.levels[level], row, column), *tail), dtype)
        read = getattr(self._landed.store, method)
        try:
            chunk: npt.NDArray[Any] = read(level, row, column)
        except DamagedStore:
            with self._landed.building:
                try:
                    return np.asarray(read(level, row, column))  # another thread was faster
                except DamagedStore:
                    # Everything else stays readable meanwhile: zeros would be taken for pixels.
                    self._landed.entry.spoil()
                    self._stream(None, None, again=True)
            chunk = read(level, row, column)
        return chunk

    def _stream(
        self,
        on_band: OnLanded | None,
        cancelled: Callable[[], bool] | None,
        *,
        again: bool = False,
    ) -> None:
        height, width = self.levels[0].height, self.levels[0].width
        step, landed = self.levels[0].chunk_height, self._landed
        heights = [level.chunk_height for level in self.levels]
        if not again:
            landed.rows = [0] * len(self.levels)

        def write(level: int, top: int, pixels: Any, valid: Any) -> None:
            landed.store.write(level, top // heights[level], 0, pixels, valid)
            landed.rows[level] = max(landed.rows[level], top + len(pixels))

        rows = RowPyramid(self.levels, write, fill=self._fill, nodata=self._nodata)
        with ThreadPoolExecutor(1, "stream-write") as writer:
            before: tuple[Future[None], int, int] | None = None
            try:
                for y0 in range(0, height, step):
                    y1 = min(y0 + step, height)
                    if cancelled is not None and cancelled():
                        raise Cancelled("Reading the file into the cache was cancelled.")
                    pixels = self.base.read_rows(y0, y1)
                    if pixels.shape != (y1 - y0, width, self.bands):
                        raise UnreadableImage(
                            f"The file ends at row {y0 + len(pixels)} of {height}.",
                            "It seems truncated; copy it again.",
                        )
                    valid = None
                    if self.may_be_invalid:
                        valid = self.base.read_valid_rows(y0, y1, pixels)
                    # While this band is written the next one is decoded, never more.
                    self._land(before, on_band)
                    job = writer.submit(rows.add, y0, pixels, valid)
                    before = job, y0, y1
                    del pixels, valid, job
                self._land(before, on_band)
            except BaseException:
                if before is not None:
                    before[0].exception()
                if not again:
                    landed.rows = [0] * len(self.levels)
                raise
        landed.entry.finish()

    def _land(self, band: tuple[Future[None], int, int] | None, on_band: OnLanded | None) -> None:
        if band is None:
            return
        future, y0, y1 = band
        future.result()
        if on_band is not None:
            on_band((y0, 0, y1, self.levels[0].width), y1, self.levels[0].height)


class _Landed(Shared):
    """Decoded part of one file: the store, rows per level, the lock."""

    KIND: ClassVar[str] = "streams"

    def __init__(self, source: StreamedSource, entry: OpenEntry) -> None:
        super().__init__(source, entry)
        if entry.complete and not self.store.is_complete():
            entry.spoil()
        self.rows = [level.height if entry.complete else 0 for level in source.levels]
