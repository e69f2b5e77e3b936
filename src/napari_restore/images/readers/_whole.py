"""Pictures of formats that can only be decoded as a whole."""

from __future__ import annotations

import threading
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_restore.images._reader import Reader
from napari_restore.images._source import Level, chunk_box
from napari_restore.images.files.claims import check_whole_size

CHUNK = 512


class WholeReader(Reader):
    """A reader that decodes all pixels at once, and keeps them until the last row was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pixels: npt.NDArray[Any] | None = None
        self._lock = threading.Lock()

    def _take_size(self, height: int, width: int) -> None:
        """Take a size in pixels, of `bands` in `dtype`; raises `UnreadableImage` for what is too large."""
        self.block_bytes = height * width * self.bands * self.dtype.itemsize
        check_whole_size(self.path.name, self.block_bytes)
        self.levels = (Level(height, width, min(CHUNK, height), min(CHUNK, width)),)

    @abstractmethod
    def _decode(self) -> npt.NDArray[Any]:
        """Return the whole picture (H, W, C); raises `UnreadableImage`."""

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        y0, x0, y1, x1 = chunk_box(self.levels[level], row, column)
        return self._decoded()[y0:y1, x0:x1].copy()

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        rows = self._decoded()[y0:y1].copy()
        if y1 >= self.levels[0].height:
            self._pixels = None
        return rows

    def close(self) -> None:
        self._pixels = None

    def _decoded(self) -> npt.NDArray[Any]:
        with self._lock:
            pixels = self._pixels
            if pixels is None:
                self._pixels = pixels = self._decode()
            return pixels
