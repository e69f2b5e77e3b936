"""Photos in JPEG as libjpeg-turbo decodes them.

Chroma, stored at half the resolution, is interpolated in more than one way. Pillow, OpenCV and
browsers do as libjpeg-turbo; the library in rasterio's wheels is up to 34 levels off from that.
Maps keep GDAL's values.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import STRIP_BYTES, strip_level
from napari_restore.images._source import Level, chunk_box
from napari_restore.images.cache.chunks import chunk_cache
from napari_restore.images.files.claims import LARGEST_WHOLE
from napari_restore.images.files.jpeg import END, JpegFrame, frame_of
from napari_restore.images.levels.row_pyramid import RowPyramid, row_levels
from napari_restore.images.readers._gdal import GdalReader
from napari_restore.images.values.colour import cmyk_to_rgb

Array = npt.NDArray[Any]
BY_GDAL = "It is decoded by GDAL: at edges, colours may be some levels off from other programs."
READ_BYTES = 1 << 15


class JpegReader(GdalReader):
    """JPEG and MPO (H, W, 1 or 3) uint8; metadata and masks as GDAL has them."""

    _frame: JpegFrame | None = None

    def _describe_levels(self, dataset: Any) -> None:
        frame = frame_of(self.path)
        if frame is None or not self._suits(dataset, frame):
            super()._describe_levels(dataset)
            if frame is not None and self.georeference is None and self.bands > 1:
                self.notes.append(BY_GDAL)
            return
        self._frame = frame
        level, self.random_access = strip_level(frame.height, frame.width, self.bands)
        self.levels, self._overviews = (level,), [None]
        if self.random_access and self._kind == "none":
            # Not GDAL's smaller versions: they are of its own decoder, or of a thumbnail.
            levels = row_levels(frame.height, frame.width, self.bands, STRIP_BYTES)
            self.levels = tuple(Level.cut(h, w, rows, w) for h, w, rows, _ in levels)
        elif not (self.random_access or frame.in_rows):
            self.block_bytes = _whole_bytes(frame)

    def _suits(self, dataset: Any, frame: JpegFrame) -> bool:
        same = dataset.driver == "JPEG" and dataset.shape == (frame.height, frame.width)
        photo = self.georeference is None and frame.bits == 8
        bands = {1: 1, 3: 3, 4: 3}.get(frame.components) == self.bands
        return same and photo and bands and (frame.in_rows or _whole_bytes(frame) <= LARGEST_WHOLE)

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        if self._frame is None:
            return super().read_chunk(level, row, column)
        with self._rows_lock:
            # Another thread may have passed it.
            kept = chunk_cache.peek(self, ("pixels", level, row, column))
            if kept is not None:
                return kept
            if level > 0:
                return self._pass(self._frame, level, row)
            y0, _, y1, _ = chunk_box(self.levels[0], row, column)
            if self._rows is None or self._rows.position > y0:
                self._restart(self._frame)
            while (top := self._rows.position) < y0:
                number = top // self.levels[0].chunk_height
                end = chunk_box(self.levels[0], number, 0)[2]
                chunk_cache.offer(self, ("pixels", 0, number, 0), self._next(end))
            return self._next(y1)

    def _pass(self, frame: JpegFrame, level: int, row: int) -> Array:
        """Decode all rows, offer all chunks of all levels to the cache, and return one."""
        found: list[Array] = []

        def sink(number: int, top: int, pixels: Array, valid: Any) -> None:
            place = top // self.levels[number].chunk_height
            if (number, place) == (level, row):
                found.append(pixels)
            chunk_cache.offer(self, ("pixels", number, place, 0), pixels)

        pyramid = RowPyramid(self.levels, sink)
        self._restart(frame)
        step = self.levels[0].chunk_height
        for top in range(0, frame.height, step):
            pyramid.add(top, self._next(min(top + step, frame.height)))
        return found[0]

    def read_rows(self, y0: int, y1: int) -> Array:
        if self._frame is None:
            return super().read_rows(y0, y1)
        with self._rows_lock:
            if self._rows is None or self._rows.position > y0:
                self._restart(self._frame)
            if self._rows.position < y0:
                self._next(y0)
            return self._next(y1)

    def _restart(self, frame: JpegFrame) -> None:
        if self._rows is not None:
            self._rows.close()
        rows = _CodedRows if frame.in_rows and frame.components < 4 else _DecodedRows
        with decoder_errors(self.path):
            self._rows = rows(self.path, frame)

    def _next(self, end: int) -> Array:
        """Return the rows from the position up to `end` (h, W, C)."""
        with decoder_errors(self.path):
            pixels: Array = self._rows.read(end)
        if end >= self.levels[0].height:
            self._rows.close()
            self._rows = None
        return pixels


class _CodedRows:
    """Rows decoded from the file as they are read, by Pillow's decoder."""

    # It writes into a picture of the full size, whose memory is given back behind it.
    def __init__(self, path: Path, frame: JpegFrame) -> None:
        from PIL import Image as Pillow

        # Its decoders are the way to less than a whole picture.
        core: Any = Pillow.core  # type: ignore[attr-defined]
        self.position = 0
        self._decoded = 0
        self._components = frame.components
        self._file = open_file(path)
        weakref.finalize(self, self._file.close)
        self._coded, self._ended = b"", False
        size = (frame.width, frame.height)
        self._memory = _memory(4 * frame.width * frame.height)
        self._pixels = np.frombuffer(self._memory, np.uint8).reshape(*size[::-1], 4)
        memory: Any = self._memory
        picture = Pillow.frombuffer("RGBX", size, memory, "raw", "RGBX", 0, 1)
        self._decoder = core.jpeg_decoder("RGB", "RGB", "")
        self._decoder.setimage(picture.im, (0, 0, *size))

    def read(self, end: int) -> Array:
        out = np.empty((end - self.position, self._pixels.shape[1], self._components), np.uint8)
        at = 0
        while at < len(out):
            if self._decoded == self.position:
                self._decode()
            count = min(self._decoded, end) - self.position
            rows = slice(self.position, self.position + count)
            out[at : at + count] = self._pixels[rows, :, : self._components]
            self._give_back(rows)
            self.position, at = rows.stop, at + count
        return out

    def close(self) -> None:
        self._file.close()

    def _decode(self) -> None:
        """Decode at least one more row."""
        while self._decoded == self.position:
            more = self._file.read(READ_BYTES)
            if not more and self._ended:
                raise ValueError("it ends before its last row")
            # One may lack its last marker, and nothing else.
            more, self._ended = more or END, not more
            self._coded += more
            used, error = self._decoder.decode(self._coded)
            if error < 0:
                raise ValueError("its coded pixels are damaged")
            if used < 0:
                self._decoded = len(self._pixels)
                return
            self._coded = self._coded[used:]
            # The fourth byte of a pixel is 0 until its row is decoded.
            while self._decoded < len(self._pixels) and self._pixels[self._decoded, 0, 3]:
                self._decoded += 1

    def _give_back(self, rows: slice) -> None:
        if hasattr(self._memory, "madvise"):
            stride, page = self._pixels.strides[0], mmap.PAGESIZE
            first, end = rows.start * stride // page * page, rows.stop * stride // page * page
            if end > first:
                self._memory.madvise(mmap.MADV_DONTNEED, first, end - first)


@contextlib.contextmanager
def decoder_errors(path: Path) -> Iterator[None]:
    """Turn errors of a decoder into one sentence with a next step."""
    try:
        yield
    except Exception as error:  # the decoder's own
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise UnreadableImage(
            f"{path.name} cannot be read: {text}.", "Check the file, or copy it again."
        ) from error


def _memory(size: int) -> mmap.mmap:
    """Return zeros that take memory, on Windows disk, only once they are written."""
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with tempfile.TemporaryFile(prefix="napari-restore-") as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)


class _DecodedRows:
    """Rows of a JPEG that can only be decoded as a whole: a progressive one, or CMYK."""

    def __init__(self, path: Path, frame: JpegFrame) -> None:
        import imagecodecs

        self.position = 0
        pixels = np.asarray(imagecodecs.jpeg8_decode(path.read_bytes() + END))
        pixels = pixels.reshape(frame.height, frame.width, frame.components)
        self._pixels = pixels
        self._inks = frame.components == 4

    def read(self, end: int) -> Array:
        rows = self._pixels[self.position : end]
        self.position = end
        # Programs write inks inverted, as Adobe does.
        return cmyk_to_rgb(255 - rows) if self._inks else rows.copy()

    def close(self) -> None:
        del self._pixels


def _whole_bytes(frame: JpegFrame) -> int:
    """Return the bytes for decoding a picture as a whole: coefficients of 16 bits, and pixels."""
    return 3 * frame.height * frame.width * frame.components
