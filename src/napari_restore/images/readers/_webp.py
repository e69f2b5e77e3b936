"""WebP: the first frame of an animation, which GDAL does not decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._source import chunk_box
from napari_restore.images.readers._gdal import GdalReader
from napari_restore.images.readers._jpeg import decoder_errors

Array = npt.NDArray[Any]


class WebpReader(GdalReader):
    """WebP (H, W, 3 or 4) uint8; an animation is decoded by Pillow, all else by GDAL."""

    _frame: Array | None = None

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        if self.photo.pictures < 2:
            return super().read_chunk(level, row, column)
        y0, x0, y1, x1 = chunk_box(self.levels[0], row, column)
        return self._first()[y0:y1, x0:x1].copy()

    def read_rows(self, y0: int, y1: int) -> Array:
        if self.photo.pictures < 2:
            return super().read_rows(y0, y1)
        rows = self._first()[y0:y1].copy()
        if y1 >= self.levels[0].height:
            self._frame = None
        return rows

    def close(self) -> None:
        super().close()
        self._frame = None

    def _first(self) -> Array:
        with self._rows_lock:
            frame = self._frame
            if frame is None:
                from PIL.WebPImagePlugin import WebPImageFile

                # The class itself, not Image.open: that refuses large images by their size.
                with decoder_errors(self.path), WebPImageFile(self.path) as picture:
                    mode = "RGBA" if self.bands == 4 else "RGB"
                    frame = self._frame = np.asarray(picture.convert(mode))
            return frame
