"""Files without cheap random access, streamed once into a tiled cache with all levels.

A big JPEG, PNG or striped TIFF can only be decoded from the top. One thread
decodes bands of rows while another writes those before as chunks of all levels.
Memory is a few bands, whatever the height.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.errors import Cancelled, UnreadableImage
from napari_restore.images._source import Source, chunk_shape
from napari_restore.images.cache._folder import Entry
from napari_restore.images.cache._level_store import DamagedStore
from napari_restore.images.levels._cached import CachedSource, OnLanded, Shared
from napari_restore.images.levels._row_pyramid import LEAST_ROWS, RowPyramid, row_levels


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

    def __init__(self, source: StreamedSource, entry: Entry) -> None:
        super().__init__(source, entry)
        if entry.complete and not self.store.is_complete():
            entry.spoil()
        self.rows = [level.height if entry.complete else 0 for level in source.levels]
