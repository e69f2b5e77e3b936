"""Planning of the levels of an image, and building those that its file lacks."""

from __future__ import annotations

import math
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import replacing
from napari_restore.errors import Cancelled, UnreadableImage
from napari_restore.images._base import ImageBase
from napari_restore.images._reader import Reader
from napari_restore.images._source import (
    CHUNK,
    Box,
    Level,
    Source,
    chunk_box,
    chunk_grid,
    chunk_shape,
    chunks_of,
    common_part,
    within,
)
from napari_restore.images.cache.folder import (
    OpenEntry,
    cache_dir,
    entry_key,
    is_whole,
    no_space_as_error,
)
from napari_restore.images.cache.level_store import DamagedStore, LevelStore
from napari_restore.images.levels.reduce import halve, level_sizes
from napari_restore.images.levels.row_pyramid import LEAST_ROWS, RowPyramid, row_levels
from napari_restore.images.values.validity import default_fill

FORMAT = 4
"""Raised when what lies in the cache changes; part of every description."""
ENOUGH = 2048
"""Files whose smallest level is no longer than this on its long side need no further levels."""

OnLanded = Callable[[Box, int, int], None]
"""Called with the box written, in level-0 pixels, parts done, parts in all."""

_running: weakref.WeakKeyDictionary[ImageBase, StreamedSource] = weakref.WeakKeyDictionary()
"""Streams of images that are not complete yet, and those that became their source."""


def planned_levels(reader: Reader) -> tuple[Level, ...]:
    """Return the file's own levels, and those to be built below its smallest."""
    stored = reader.levels
    smallest = stored[-1]
    # An untiled file is streamed, which makes all levels with it.
    if reader.random_access and max(smallest.height, smallest.width) <= ENOUGH:
        return stored
    sizes = level_sizes(smallest.height, smallest.width)[1:]
    return (*stored, *(Level.cut(h, w) for h, w in sizes))


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
    pyramid = image.pyramid
    if not isinstance(pyramid, PyramidSource):
        pyramid = PyramidSource(image.source, image.fingerprint, nodata=image.nodata)
        image.pyramid = pyramid
    pyramid.build(on_chunk, cancelled, centre)


def attach_pyramid(image: ImageBase) -> None:
    """Give `image` the levels it does not store if the cache has all of them; build nothing."""
    if image.pyramid is None and len(image.source.levels) < len(image.planned_levels):
        pyramid = PyramidSource(image.source, image.fingerprint, nodata=image.nodata)
        if _Built.is_whole(pyramid) and pyramid.complete:
            image.pyramid = pyramid


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
    image.pyramid = running
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


BLOCK_SIDE = 2048
BLOCK_BYTES = 64 << 20
"""Most bytes of a super-block's pixels, by a shorter side if need be."""
CANCELLED = "Building the overviews was cancelled."


class CachedSource(Source):
    """`base` with levels that it does not store, from the cache; missing parts read as 0."""

    # All sources of one file in one process share what is there.

    first: int
    """Number of the finest level in the cache; `base` has those before."""

    def __init__(self, base: Source, fingerprint: str, *, nodata: float | None = None) -> None:
        self.base, self.fingerprint = base, fingerprint
        self.bands, self.dtype = base.bands, base.dtype
        self.may_be_invalid = base.may_be_invalid
        self._nodata = nodata

    @cached_property
    @abstractmethod
    def _shared(self) -> Shared:
        """What the cache has of it; its entry is made when it is first used."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether every chunk of every level is there."""

    @property
    def cached(self) -> bool:
        """Whether chunks may be cached: not while some of them are still missing."""
        return self.complete

    @abstractmethod
    def _read_again(
        self, level: int, row: int, column: int, read: Callable[[], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        """Make a chunk again that `read` has found damaged, and return it."""

    @property
    def about(self) -> dict[str, Any]:
        """The description of the cache entry that serves this source."""
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "levels": [list(level) for level in self.levels],
            "bands": self.bands,
            "dtype": self.dtype.str,
            "fill": repr(default_fill(self.dtype, self._nodata)),
            "nodata": repr(self._nodata),
            "valid": self.may_be_invalid,
            "data_bands": list(getattr(self.base, "data_bands", ())),
        }

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return a chunk; zeros while it is not there. A damaged one is made again."""
        if level < self.first:
            return self.base.read_chunk(level, row, column)
        return self._from_store("pixels", level, row, column)

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return a chunk's validity; all invalid while it is not there, if anything may be."""
        if level < self.first:
            return self.base.read_valid_chunk(level, row, column, pixels)
        return self._from_store("valid", level, row, column)[..., 0]

    def _from_store(self, kind: str, level: int, row: int, column: int) -> npt.NDArray[Any]:
        if not self.is_built(level, row, column):
            depth, dtype = (self.bands, self.dtype) if kind == "pixels" else (1, np.dtype(bool))
            return np.zeros((*chunk_shape(self.levels[level], row, column), depth), dtype)
        read = partial(self._shared.store.read, kind, level, row, column)
        try:
            chunk: npt.NDArray[Any] = read()
        except DamagedStore:
            chunk = self._read_again(level, row, column, read)
        return chunk

    def close(self) -> None:
        """Close the wrapped source; the cache stays."""
        self.base.close()


class Shared:
    """Cached levels of one file, shared by all sources of it in this process."""

    KIND: ClassVar[str]
    _shared: ClassVar[weakref.WeakValueDictionary[Path, Any]] = weakref.WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, source: CachedSource, entry: OpenEntry) -> None:
        self.entry = entry
        self.building = threading.Lock()
        """Locked while a thread fills the cache."""
        with no_space_as_error(entry.path):
            self.store = LevelStore(entry.path, source, source.first)

    @classmethod
    def share(cls, source: CachedSource) -> Self:
        """Return the shared levels of `source`, created for the first source of its file."""
        with cls._guard:
            about = source.about
            entry = OpenEntry.open(cls.KIND, entry_key(source.fingerprint, about), about)
            shared: Self | None = cls._shared.get(entry.path)
            if shared is None:
                shared = cls._shared[entry.path] = cls(source, entry)
            return shared

    @classmethod
    def is_whole(cls, source: CachedSource) -> bool:
        """Return whether the cache has all that `source` needs; creates nothing."""
        key = entry_key(source.fingerprint, source.about)
        return is_whole(cache_dir() / cls.KIND / key, source.about)


class PyramidSource(CachedSource):
    """`base` with every level; unbuilt chunks read as 0 and invalid."""

    # Levels that `base` stores itself are passed through, only coarser ones are built.
    def __init__(self, base: Source, fingerprint: str, *, nodata: float | None = None) -> None:
        super().__init__(base, fingerprint, nodata=nodata)
        self.first = len(base.levels)
        top = base.levels[-1]
        self.block = _block_side(base)
        sizes = level_sizes(top.height, top.width)[1:]
        added = [
            Level(height, width, min(CHUNK, self.block >> step), min(CHUNK, self.block >> step))
            for step, (height, width) in enumerate(sizes, 1)
        ]
        self.levels = (*base.levels, *added)
        self.grid = Level(top.height, top.width, self.block, self.block)
        """The smallest level of `base`, cut into super-blocks."""

    @cached_property
    def _shared(self) -> _Built:
        return _Built.share(self)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(row, column) of all super-blocks."""
        return chunk_grid(self.grid)

    @property
    def complete(self) -> bool:
        """Whether every chunk of every level is there."""
        return bool(self._shared.done.all())

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk has pixels; chunks of the file's own levels always do."""
        return level < self.first or bool(self._shared.done[self._owner(level, row, column)])

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
        built = self._shared
        with built.building:
            todo = [block for block in self.blocks if not built.done[block]]
            height, width = self.levels[0][:2]
            middle = (height / 2, width / 2) if centre is None else centre
            todo.sort(key=lambda block: self._distance(block, middle))
            done, total = built.done.size - len(todo), built.done.size
            for block in self._run(todo, workers, cancelled):
                done += 1
                if on_block is not None:
                    on_block(self.box_of(block), done, total)
            built.entry.finish()

    def box_of(self, block: tuple[int, int]) -> Box:
        """Return the level-0 box of a super-block."""
        first, top = self.levels[0], self.grid
        fy, fx = first.height / top.height, first.width / top.width
        y0, x0, y1, x1 = chunk_box(top, *block)
        return round(y0 * fy), round(x0 * fx), round(y1 * fy), round(x1 * fx)

    @property
    def about(self) -> dict[str, Any]:
        """The description of the cache entry that serves this source."""
        return super().about | {"first": self.first}

    def _read_again(
        self, level: int, row: int, column: int, read: Callable[[], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        self._build_block(self._owner(level, row, column))
        return read()

    def _owner(self, level: int, row: int, column: int) -> tuple[int, int]:
        """Return the super-block of a chunk."""
        side = self.block >> (level - self.first + 1)
        chunk = self.levels[level].chunk_height
        return row * chunk // side, column * chunk // side

    def _distance(self, block: tuple[int, int], point: tuple[float, float]) -> float:
        y0, x0, y1, x1 = self.box_of(block)
        return math.dist(((y0 + y1) / 2, (x0 + x1) / 2), point)

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
                    # Not longer: `cancelled` is asked in between.
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
        pixels, valid = self._read_block(block, stopped)
        for level in range(self.first, len(self.levels)):
            pixels, valid = halve(pixels, valid, nodata=self._nodata)
            side = self.block >> (level - self.first + 1)
            per_side = side // self.levels[level].chunk_height
            row, column = block[0] * per_side, block[1] * per_side
            self._shared.store.write(level, row, column, pixels, valid)
        self._shared.mark(block)

    def _read_block(
        self, block: tuple[int, int], stopped: threading.Event | None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Return the pixels of a super-block, joined from the file's own chunks; raises `Cancelled` once `stopped`."""
        number, box = self.first - 1, chunk_box(self.grid, *block)
        pixels = np.empty((*chunk_shape(self.grid, *block), self.bands), self.dtype)
        valid = np.empty(pixels.shape[:2], bool) if self.may_be_invalid else None
        for row, column, there in chunks_of(self.levels[number], box):
            if stopped is not None and stopped.is_set():
                raise Cancelled(CANCELLED)
            chunk = self.base.read_chunk(number, row, column)
            part = common_part(box, there)
            pixels[within(part, box)] = chunk[within(part, there)]
            if valid is not None:
                flags = self.base.read_valid_chunk(number, row, column, chunk)
                valid[within(part, box)] = flags[within(part, there)]
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
    steps = len(level_sizes(top.height, top.width)) - 1
    return max(side, 1 << steps)


class StreamedSource(CachedSource):
    """`base` as tiles with all levels, from the cache; rows not yet decoded read as 0."""

    # It is read once from top to bottom with `read_rows`.

    first = 0

    def __init__(self, base: Source, fingerprint: str, *, nodata: float | None = None) -> None:
        super().__init__(base, fingerprint, nodata=nodata)
        height, width = base.levels[0].height, base.levels[0].width
        whole = row_levels(height, width, self.bands * self.dtype.itemsize)
        # Lower chunks in coarser levels: each band of rows is written to nearly all levels at once,
        # so that a coarse one is shown before most of the file is decoded.
        self.levels = tuple(
            level._replace(chunk_height=max(LEAST_ROWS, level.chunk_height >> number))
            for number, level in enumerate(whole)
        )

    @cached_property
    def _shared(self) -> _Landed:
        return _Landed.share(self)

    @property
    def complete(self) -> bool:
        """Whether every row of every level is there."""
        return self._shared.entry.complete

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk is written."""
        top = row * self.levels[level].chunk_height
        bottom = min(top + self.levels[level].chunk_height, self.levels[level].height)
        return self._shared.rows[level] >= bottom

    def build(
        self, on_band: OnLanded | None = None, cancelled: Callable[[], bool] | None = None
    ) -> None:
        """Stream the file; return at once if that was done before.

        `on_band` is called in the calling thread, `cancelled` called between bands. Raises
        `Cancelled`, `DiskFull`, `UnreadableImage`; then nothing counts as decoded.
        """
        with self._shared.building:
            if not self.complete:
                self._stream(on_band, cancelled)

    def _read_again(
        self, level: int, row: int, column: int, read: Callable[[], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        with self._shared.building:
            try:
                return read()  # another thread was faster
            except DamagedStore:
                # Everything else stays readable meanwhile: zeros would be taken for pixels.
                self._shared.entry.spoil()
                self._stream(None, None, again=True)
        return read()

    def _stream(
        self,
        on_band: OnLanded | None,
        cancelled: Callable[[], bool] | None,
        *,
        again: bool = False,
    ) -> None:
        height, width = self.levels[0].height, self.levels[0].width
        step, landed = self.levels[0].chunk_height, self._shared
        heights = [level.chunk_height for level in self.levels]
        if not again:
            landed.rows = [0] * len(self.levels)

        def write(level: int, top: int, pixels: Any, valid: Any) -> None:
            self._shared.store.write(level, top // heights[level], 0, pixels, valid)
            landed.rows[level] = max(landed.rows[level], top + len(pixels))

        rows = RowPyramid(self.levels, write, nodata=self._nodata)
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
