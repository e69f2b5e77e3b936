"""Radiance pictures (.hdr): linear light as shared-exponent floats."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._profile import Profile
from napari_restore.images._reader import STREAMED_BYTES, Reader
from napari_restore.images._source import Level, chunk_box
from napari_restore.images.files.claims import RUNS_RATIO, check_ratio, check_whole_size
from napari_restore.images.values.working_space import profile_of_light

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
        with open_file(path) as file:
            text = file.read(65536)
        _check_size(path, text)
        self._describe(text)
        # The size stands after the text; decoding is the only check that the file is complete.
        height, width = self._decode().shape[:2]
        self.levels = (Level(height, width, height, width),)
        whole = height * width * self.bands * self.dtype.itemsize
        self._pixels: npt.NDArray[np.float32] | None = None
        if whole > STREAMED_BYTES:
            self.random_access, self.block_bytes = False, whole
            self.levels = (Level(height, width, min(CHUNK, height), min(CHUNK, width)),)
        self.may_be_invalid = False
        self.profile = Profile(
            driver="Radiance", colorinterp=("red", "green", "blue"), icc=self._icc
        )

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

        content, order = self.path.read_bytes(), self._order
        try:
            if order is not None:
                # The codec knows the usual order only.
                usual = b"\n\n-Y %s +X %s\n" % (order["rows"], order["columns"])
                content = content[: order.start()] + usual + content[order.end() :]
            pixels = np.asarray(imagecodecs.rgbe_decode(content), np.float32)
        except Exception as error:  # the codec's own
            raise UnreadableImage(
                f"{self.path.name} cannot be read as a Radiance picture: {error}.",
                "It seems truncated; copy it again.",
            ) from error
        if order is not None:
            steps = {order["slow"][1:]: order["slow"][:1], order["fast"][1:]: order["fast"][:1]}
            pixels = pixels if order["slow"][1:] == b"Y" else pixels.swapaxes(0, 1)
            pixels = pixels[
                :: 1 if steps[b"Y"] == b"-" else -1, :: 1 if steps[b"X"] == b"+" else -1
            ]
        return pixels @ _RGB_OF_XYZ.T if self._is_xyz else pixels

    def _describe(self, head: bytes) -> None:
        """Take from the text before the pixels what they mean (Ward, "Real Pixels", 1991)."""
        self._order = _SIZE.search(head)
        text = head[: self._order.start() if self._order else 0]
        self._is_xyz, self._icc = b"FORMAT=32-bit_rle_xyze" in text, None
        if self._is_xyz:
            self.notes.append("Its values were converted from XYZ to the primaries of sRGB.")
        exposure = math.prod(float(each) for each in _EXPOSURE.findall(text))
        if exposure != 1:
            self.notes.append(
                f"Its values were multiplied by {exposure:g} (EXPOSURE), and are read as they are."
            )
        own = _PRIMARIES.search(text)
        if own and not self._is_xyz:
            places = [float(each) for each in own[1].split()]
            if not np.allclose(places, _USUAL, atol=1e-3):
                self._icc, notes = profile_of_light(places)
                self.notes += notes


_SIZE = re.compile(
    rb"\n\s*\n?(?P<slow>[-+][XY])\s+(?P<rows>\d+)\s+(?P<fast>[-+][XY])\s+(?P<columns>\d+)\n"
)
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_EXPOSURE = re.compile(rb"(?m)^EXPOSURE\s*=\s*(%s)\s*$" % _NUMBER)
_PRIMARIES = re.compile(rb"(?m)^PRIMARIES\s*=\s*(%s(?:\s+%s){7})\s*$" % (_NUMBER, _NUMBER))
_USUAL = (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3333, 0.3333)
"""x and y of red, green, blue and white: Radiance's own, which are taken as those of sRGB."""
_RGB_OF_XYZ = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]], np.float32
)
"""From XYZ to linear sRGB (IEC 61966-2-1)."""


def _check_size(path: Path, head: bytes) -> None:
    """Refuse a size that cannot be in the file, even as runs of equal pixels."""
    match = _SIZE.search(head)
    if match is not None:
        height, width = int(match["rows"]), int(match["columns"])
        claimed, what = 4 * height * width, f"{height} × {width} pixels"
        check_ratio(path.name, claimed, path.stat().st_size, RUNS_RATIO, what)
        check_whole_size(path.name, 3 * claimed)
