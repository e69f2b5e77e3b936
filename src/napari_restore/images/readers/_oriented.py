"""Pictures turned upright."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._reader import InnerReader, Reader
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.cache.chunks import read_window
from napari_restore.images.files.xmp import upright_xmp

Array = npt.NDArray[Any]

_TURNS = {
    # Orientation: (transpose first, then flip rows, then flip columns)
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
SPOOL_ROWS = 256


class OrientedReader(InnerReader):
    """Another reader's pixels after its EXIF or TIFF orientation (2 … 8) was applied."""

    cached = False

    def __init__(self, inner: Reader) -> None:
        super().__init__(inner)
        self.planes, self.plane, self.notes = inner.planes, inner.plane, inner.notes
        self.random_access, self.block_bytes = inner.random_access, inner.block_bytes
        self._transposed, self._flip_rows, self._flip_columns = _TURNS[inner.profile.orientation]
        dots = inner.profile.resolution
        self.profile = replace(
            inner.profile,
            # Viewers must not turn it again.
            xmp=upright_xmp(inner.profile.xmp),
            resolution=dots[::-1] if self._transposed and dots is not None else dots,
        )
        self.levels = tuple(
            Level(lv.width, lv.height, lv.chunk_width, lv.chunk_height) if self._transposed else lv
            for lv in inner.levels
        )
        self._spool: Array | None = None
        self._spool_file: Any = None
        self._lock = threading.Lock()
        self.notes.append("The picture was turned upright by its orientation tag.")

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        box = self._stored_box(level, chunk_box(self.levels[level], row, column))
        return self._turned(read_window(self.inner, level, box))

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        stored = self._turned_back(pixels)
        return self._turned(self.inner.valid_in(level, self._stored_box(level, box), stored))

    def read_rows(self, y0: int, y1: int) -> Array:
        y0_, x0_, y1_, x1_ = self._stored_box(0, (y0, 0, y1, self.levels[0].width))
        if not (self._transposed or self._flip_rows):
            return self._turned(self.inner.read_rows(y0_, y1_))
        with self._lock:
            if self._spool is None:
                self._fill_spool()
            assert self._spool is not None
            rows = self._turned(np.array(self._spool[y0_:y1_, x0_:x1_]))
            if y1 >= self.levels[0].height:
                self._drop_spool()
        return rows

    def close(self) -> None:
        super().close()
        with self._lock:
            self._drop_spool()

    def _turned(self, array: Array) -> Array:
        if self._transposed:
            array = array.swapaxes(0, 1)
        if self._flip_rows:
            array = array[::-1]
        if self._flip_columns:
            array = array[:, ::-1]
        return np.ascontiguousarray(array)

    def _turned_back(self, array: Array) -> Array:
        if self._flip_columns:
            array = array[:, ::-1]
        if self._flip_rows:
            array = array[::-1]
        return np.ascontiguousarray(array.swapaxes(0, 1) if self._transposed else array)

    def _stored_box(self, level: int, box: Box) -> Box:
        """Return the box of the stored picture that the upright one shows in `box`."""
        y0, x0, y1, x1 = box
        height, width = self.levels[level][:2]
        if self._flip_rows:
            y0, y1 = height - y1, height - y0
        if self._flip_columns:
            x0, x1 = width - x1, width - x0
        return (x0, y0, x1, y1) if self._transposed else (y0, x0, y1, x1)

    def _fill_spool(self) -> None:
        """Write the stored rows, which are cheap only in order, to a scratch file."""
        height, width = self.inner.levels[0][:2]
        self._spool_file = tempfile.TemporaryFile(prefix="napari-restore-")
        shape = (height, width, self.bands)
        self._spool = np.memmap(self._spool_file, self.dtype, "w+", shape=shape)
        for top in range(0, height, SPOOL_ROWS):
            bottom = min(top + SPOOL_ROWS, height)
            self._spool[top:bottom] = self.inner.read_rows(top, bottom)

    def _drop_spool(self) -> None:
        self._spool = None
        if self._spool_file is not None:
            self._spool_file.close()
            self._spool_file = None
