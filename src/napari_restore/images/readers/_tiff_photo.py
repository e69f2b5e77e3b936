"""Photos in TIFF whose values GDAL changes in its own way: JPEG with subsampled chroma, and Lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.images._profile import PER_BAND
from napari_restore.images._source import chunk_box
from napari_restore.images.files.tiff import CIELAB, COMPRESSION, JPEG, PHOTOMETRIC, YCBCR, tags_in
from napari_restore.images.readers._gdal import GdalReader
from napari_restore.images.readers._jpeg import BY_GDAL, decoder_errors
from napari_restore.images.values.colour import lab_to_srgb

Array = npt.NDArray[Any]


class TiffPhotoReader(GdalReader):
    """Blocks (H, W, 3) decoded by imagecodecs: JPEG as in `JpegReader`, Lab converted to sRGB."""

    # Metadata and coarser levels are as GDAL has them; maps altogether.

    _page: Any = None
    _lab = False

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        tags = tags_in(path, head)
        coding, colours = tags.get(COMPRESSION), tags.get(PHOTOMETRIC)
        return colours == (CIELAB,) or (coding, colours) == ((JPEG,), (YCBCR,))

    def _describe(self, dataset: Any) -> None:
        super()._describe(dataset)
        if self.georeference is not None:
            return
        import tifffile

        with decoder_errors(self.path), tifffile.TiffFile(self.path) as file:
            page = file.pages.first
            if self._page_offset:
                file.filehandle.seek(self._page_offset)
                page = tifffile.TiffPage(file, self.plane)
            suits = page.planarconfig == 1 and page.shape == (*dataset.shape, 3)
            self._lab = page.photometric == CIELAB
            if not suits or page.dtype not in (("u1", "u2") if self._lab else ("u1",)):
                self.notes += [] if self._lab else [BY_GDAL]
                self._lab = False
                return
            # Read while the file is open; the page takes the tables from there.
            self._tables, page.decode = page.jpegtables, page.decode
            self._page = page
        if self._lab:
            self._describe_lab()

    def _describe_lab(self) -> None:
        self.bands, self.dtype = 3, np.dtype(self._page.dtype).newbyteorder("=")
        self.levels, self.may_be_invalid = self.levels[:1], False
        self._kind, self._nodata = "none", ()
        # Its profile would be that of Lab.
        bands: Any = {**dict.fromkeys(PER_BAND, ()), "colorinterp": ("red", "green", "blue")}
        self.profile = replace(self.profile, masks="none", icc=None, photometric="rgb", **bands)
        self.notes.append("Lab was converted to sRGB.")

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        if self._page is None or level > 0:
            return super().read_chunk(level, row, column)
        return self._decoded(*chunk_box(self.levels[0], row, column))

    def read_rows(self, y0: int, y1: int) -> Array:
        if self._page is None:
            return super().read_rows(y0, y1)
        return self._decoded(y0, 0, y1, self.levels[0].width)

    def _decoded(self, y0: int, x0: int, y1: int, x1: int) -> Array:
        page = self._page
        rows, columns = page.chunks[:2]
        across = -(-self.levels[0].width // columns)
        out = np.zeros((y1 - y0, x1 - x0, 3), self.dtype)
        with decoder_errors(self.path), open_file(self.path) as file:
            for top in range(y0 // rows * rows, y1, rows):
                for left in range(x0 // columns * columns, x1, columns):
                    index = top // rows * across + left // columns
                    file.seek(page.dataoffsets[index])
                    coded = file.read(page.databytecounts[index])
                    block, _, shape = page.decode(coded, index, jpegtables=self._tables)
                    if block is None:
                        continue  # a sparse file leaves it out
                    bottom, right = min(top + shape[1], y1), min(left + shape[2], x1)
                    y, x = max(top, y0), max(left, x0)
                    out[y - y0 : bottom - y0, x - x0 : right - x0] = block[
                        0, y - top : bottom - top, x - left : right - left
                    ]
        return lab_to_srgb(out) if self._lab else out
