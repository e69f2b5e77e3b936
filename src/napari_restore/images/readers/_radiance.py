"""Radiance pictures (.hdr): linear light as shared-exponent floats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._profile import Profile
from napari_restore.images._reader import STREAMED_BYTES, Reader
from napari_restore.images._source import Level, chunk_box
from napari_restore.images.files.claims import RUNS_RATIO, check_ratio, check_whole_size

CHUNK = 512


class RadianceReader(Reader):
    """(H, W, 3) float32, decoded as a whole: the format has no tiles. Large ones once."""

    PRIORITY: ClassVar[int] = 40

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return head.startswith((b"#?RADIANCE", b"#?RGBE"))

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        self.bands, self.dtype = 3, np.dtype(np.float32)
        _check_size(path)
        # The size stands after the text; decoding is the only check that the file is complete.
        height, width = self._decode().shape[:2]
        self.levels = (Level(height, width, height, width),)
        whole = height * width * self.bands * self.dtype.itemsize
        self._pixels: npt.NDArray[np.float32] | None = None
        if whole > STREAMED_BYTES:
            self.random_access, self.block_bytes = False, whole
            self.levels = (Level(height, width, min(CHUNK, height), min(CHUNK, width)),)
        self.may_be_invalid = False
        self.profile = Profile(driver="Radiance", colorinterp=("red", "green", "blue"))

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        y0, x0, y1, x1 = chunk_box(self.levels[level], row, column)
        return self._decode()[y0:y1, x0:x1]

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        pixels = self._decode() if self._pixels is None else self._pixels
        # Kept until the last row was read.
        self._pixels = None if y1 >= self.levels[0].height else pixels
        return pixels[y0:y1].copy()

    def close(self) -> None:
        self._pixels = None

    def _decode(self) -> npt.NDArray[np.float32]:
        import imagecodecs

        try:
            pixels = np.asarray(imagecodecs.rgbe_decode(self.path.read_bytes()), np.float32)
        except Exception as error:  # the codec's own
            raise UnreadableImage(
                f"{self.path.name} cannot be read as a Radiance picture: {error}.",
                "It seems truncated; copy it again.",
            ) from error
        return pixels


_SIZE = re.compile(rb"\n\s*\n?[-+][XY]\s+(\d+)\s+[-+][XY]\s+(\d+)\n")


def _check_size(path: Path) -> None:
    """Refuse a size that cannot be in the file, even as runs of equal pixels."""
    with path.open("rb") as file:
        match = _SIZE.search(file.read(65536))
    if match is not None:
        height, width = int(match[1]), int(match[2])
        claimed, what = 4 * height * width, f"{height} × {width} pixels"
        check_ratio(path.name, claimed, path.stat().st_size, RUNS_RATIO, what)
        check_whole_size(path.name, 3 * claimed)
