"""Cache of decoded chunks in memory, limited in bytes, for the whole process."""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._source import Box, Source, chunks_of, common_part, within

DEFAULT_BYTES = 256 * 2**20

Array = npt.NDArray[Any]


class ChunkCache:
    """Cache that drops the least recently used chunks first and joins equal requests."""

    # Two threads that request the same chunk decode it once: the second waits. A failed decode is
    # not kept, so that the next request tries again.
    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        """Bytes in the cache now."""
        self.decodes = 0
        """Chunks decoded since the process began."""
        self._chunks: OrderedDict[Hashable, Array] = OrderedDict()
        self._in_flight: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        self._bounds: list[int] = []
        self._usual = limit
        self._tokens: weakref.WeakKeyDictionary[Source, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count()
        # Filled by finalizers, which may run while this thread has the lock.
        self._forgotten: deque[int] = deque()

    def get(self, source: Source, key: Hashable, decode: Callable[[], Array]) -> Array:
        """Return the array of `key` of `source`, read-only, made by `decode` if it is not cached."""
        with self._lock:
            full = (self._token_of(source), key)
        while True:
            with self._lock:
                self._sweep()
                chunk = self._chunks.get(full)
                if chunk is not None:
                    self._chunks.move_to_end(full)
                    return chunk
                waiting = self._in_flight.get(full)
                if waiting is None:
                    done = self._in_flight[full] = threading.Event()
                    break
            waiting.wait()
        try:
            chunk = decode()
            chunk.flags.writeable = False
            with self._lock:
                self.decodes += 1
                self._keep(full, chunk)
            return chunk
        finally:
            with self._lock:
                del self._in_flight[full]
            done.set()

    def peek(self, source: Source, key: Hashable) -> Array | None:
        """Return the array of `key` if it is cached; never waits."""
        with self._lock:
            return self._chunks.get((self._token_of(source), key))

    def offer(self, source: Source, key: Hashable, chunk: Array) -> None:
        """Keep an array, from now on read-only, that was made on the way to another."""
        chunk.flags.writeable = False
        with self._lock:
            self._keep((self._token_of(source), key), chunk)

    def resize(self, limit: int) -> None:
        """Limit the cache to `limit` bytes from now on; 0 caches nothing."""
        with self._lock:
            self.limit = limit
            self._shrink()

    @contextlib.contextmanager
    def bounded(self, limit: int) -> Iterator[None]:
        """Limit the cache to `limit` bytes inside the block, or more if another run needs more."""
        with self._lock:
            if not self._bounds:
                self._usual = self.limit
            self._bounds.append(limit)
        self.resize(max(self._bounds))
        try:
            yield
        finally:
            with self._lock:
                self._bounds.remove(limit)
            self.resize(max(self._bounds, default=self._usual))

    def forget(self, source: Source) -> None:
        """Drop everything of `source`."""
        with self._lock:
            self._forgotten.append(self._token_of(source))
            self._sweep()

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._chunks.clear()
            self.bytes = 0

    def _token_of(self, source: Source) -> int:
        """Return the number of a source; called with the lock."""
        token = self._tokens.get(source)
        if token is None:
            token = self._tokens[source] = next(self._numbers)
            weakref.finalize(source, self._forgotten.append, token).atexit = False
        return token

    def _keep(self, full: Hashable, chunk: Array) -> None:
        if chunk.nbytes > self.limit:
            return
        before = self._chunks.pop(full, None)
        self._chunks[full] = chunk
        self.bytes += chunk.nbytes - (0 if before is None else before.nbytes)
        self._shrink()

    def _shrink(self) -> None:
        while self.bytes > self.limit:
            _, chunk = self._chunks.popitem(last=False)
            self.bytes -= chunk.nbytes

    def _sweep(self) -> None:
        gone = set()
        while self._forgotten:
            gone.add(self._forgotten.popleft())
        if gone:
            for full in [f for f in self._chunks if f[0] in gone]:  # type: ignore[index]
                self.bytes -= self._chunks.pop(full).nbytes


chunk_cache = ChunkCache()
"""The cache all images of this process read through."""


def read_chunk(source: Source, level: int, row: int, column: int) -> Array:
    """Return one decoded chunk (h, w, C) through the cache; do not write into it."""
    cell = level, row, column
    return _kept(source, "pixels", cell, lambda: source.read_chunk(*cell))


def read_valid_chunk(source: Source, level: int, row: int, column: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of one chunk are valid, (h, w), through the cache."""

    def decode() -> Array:
        return source.read_valid_chunk(level, row, column, read_chunk(source, level, row, column))

    return _kept(source, "valid", (level, row, column), decode)


def _kept(
    source: Source, kind: str, cell: tuple[int, int, int], decode: Callable[[], Array]
) -> Array:
    """Return what `decode` makes of a chunk, kept where that costs something and it is built."""
    if not (source.cached and source.is_built(*cell)):
        return decode()
    return chunk_cache.get(source, (kind, *cell), decode)


def read_window(source: Source, level: int, box: Box) -> Array:
    """Return the pixels of `box` (h, w, C), assembled from chunks; a new array."""
    y0, x0, y1, x1 = box
    # It lies band by band in memory, as models, stores and TIFFs take and give pixels: in the other
    # order every step would move them once more.
    out = np.empty((source.bands, y1 - y0, x1 - x0), source.dtype).transpose(1, 2, 0)
    fetch_runs(source, level, box)
    _put_together(out, read_chunk, source, level, box)
    return out


def read_valid_window(source: Source, level: int, box: Box) -> npt.NDArray[np.bool_]:
    """Return which pixels of `box` are valid, (h, w); a new array."""
    y0, x0, y1, x1 = box
    out = np.ones((y1 - y0, x1 - x0), bool)
    if not source.may_be_invalid:
        return out
    _put_together(out, read_valid_chunk, source, level, box)
    return out


def fetch_runs(source: Source, level: int, box: Box, *, ahead: bool = False) -> None:
    """Read the chunks of `box` that are not cached, those side by side by one request to a server.

    With `ahead` also those to the right of the box that the same request can bring. Where the cache
    is too small for them, it does nothing.
    """
    layout = source.levels[level]
    size = layout.chunk_height * layout.chunk_width * source.bands * source.dtype.itemsize
    most = source.run_bytes // size
    if most <= 1:
        return
    if not _missing_runs(source, level, box, most, ahead=ahead):
        return
    # Neighbouring boxes, read on several threads, must not ask for the same chunks.
    with _making_locks:
        # One of each source: a server that stalls holds up no other image.
        lock = _fetching.setdefault(source, threading.Lock())
    with lock:
        runs = _missing_runs(source, level, box, most, ahead=ahead)
        if not runs or size * sum(len(run) for _, run in runs) > chunk_cache.limit // 2:
            return

        def fetch(run: tuple[int, range]) -> None:
            row, columns = run
            for column, chunk in zip(columns, source.read_run(level, row, columns), strict=True):
                chunk_cache.offer(source, ("pixels", level, row, column), chunk)

        with ThreadPoolExecutor(min(len(runs), source.concurrent_reads), "fetch") as pool:
            list(pool.map(fetch, runs))


def _missing_runs(
    source: Source, level: int, box: Box, most: int, *, ahead: bool
) -> list[tuple[int, range]]:
    """Return rows and columns of two to `most` chunks side by side that are not cached."""
    layout = source.levels[level]
    y0, x0, y1, x1 = box
    first, last = x0 // layout.chunk_width, -(-x1 // layout.chunk_width)
    reach = min(first + max(most, last - first), -(-layout.width // layout.chunk_width))
    runs = []
    for row in range(y0 // layout.chunk_height, -(-y1 // layout.chunk_height)):
        column = first
        while column < last:
            end = column
            until = min(reach if ahead else last, column + most)
            while end < until and chunk_cache.peek(source, ("pixels", level, row, end)) is None:
                end += 1
            if end > column + 1:
                runs.append((row, range(column, end)))
            column = max(end, column + 1)
    return runs


_fetching: weakref.WeakKeyDictionary[Source, threading.Lock] = weakref.WeakKeyDictionary()
_making_locks = threading.Lock()


def _put_together(
    out: Array, read: Callable[[Source, int, int, int], Array], source: Source, level: int, box: Box
) -> None:
    """Fill `out`, the pixels of `box`, with the result of `read` for every chunk it touches."""
    cells = list(chunks_of(source.levels[level], box))
    # Those of a server are asked for at once.
    at_once = min(len(cells), source.concurrent_reads)
    with contextlib.ExitStack() as stack:
        each: Any = map
        if at_once > 1:
            each = stack.enter_context(ThreadPoolExecutor(at_once, "fetch")).map
        chunks = each(lambda cell: read(source, level, *cell[:2]), cells)
        for (_, _, there), chunk in zip(cells, chunks, strict=True):
            part = common_part(box, there)
            out[within(part, box)] = chunk[within(part, there)]
