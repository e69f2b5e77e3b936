"""Radiance pictures (.hdr): linear light as shared-exponent floats."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.images._reader import STREAMED_BYTES
from napari_restore.images.files.claims import RUNS_RATIO, check_ratio, check_whole_size
from napari_restore.images.readers._whole import Picture, WholeReader
from napari_restore.images.values.working_space import profile_of_light


class RadianceReader(WholeReader):
    """(H, W, 3) float32, decoded as a whole: the format has no tiles. Large ones once."""

    KIND = "a Radiance picture"
    REPAIR = "It seems truncated; copy it again."

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        self.random_access = self.block_bytes <= STREAMED_BYTES

    def _header(self) -> Picture:
        with open_file(self.path) as file:
            text = file.read(65536)
        _check_size(self.path, text)
        about = {"driver": "Radiance", "icc": self._describe(text)}
        # The size stands after the text; decoding is the only check that the file is complete.
        height, width = self._decode().shape[:2]
        return Picture(height, width, np.float32, ("red", "green", "blue"), about)

    def _decode(self) -> npt.NDArray[np.float32]:
        import imagecodecs

        content, order = self.path.read_bytes(), self._order
        if order is not None:
            # The codec knows the usual order only.
            usual = b"\n\n-Y %s +X %s\n" % (order["rows"], order["columns"])
            content = content[: order.start()] + usual + content[order.end() :]
        pixels = np.asarray(imagecodecs.rgbe_decode(content), np.float32)
        if order is not None:
            steps = {order["slow"][1:]: order["slow"][:1], order["fast"][1:]: order["fast"][:1]}
            pixels = pixels if order["slow"][1:] == b"Y" else pixels.swapaxes(0, 1)
            pixels = pixels[
                :: 1 if steps[b"Y"] == b"-" else -1, :: 1 if steps[b"X"] == b"+" else -1
            ]
        return pixels @ _RGB_OF_XYZ.T if self._is_xyz else pixels

    def _describe(self, head: bytes) -> bytes | None:
        """Take from the text before the pixels what they mean (Ward, "Real Pixels", 1991); return their profile."""
        self._order = _SIZE.search(head)
        text = head[: self._order.start() if self._order else 0]
        self._is_xyz = b"FORMAT=32-bit_rle_xyze" in text
        if self._is_xyz:
            self.notes.append("Its values were converted from XYZ to the primaries of sRGB.")
        exposure = math.prod(float(each) for each in _EXPOSURE.findall(text))
        if exposure != 1:
            self.notes.append(
                f"Its values were multiplied by {exposure:g} (EXPOSURE), and are read as they are."
            )
        own = _PRIMARIES.search(text)
        chromaticities = [float(each) for each in own[1].split()] if own else _USUAL
        if self._is_xyz or np.allclose(chromaticities, _USUAL, atol=1e-3):
            return None
        icc, notes = profile_of_light(chromaticities)
        self.notes += notes
        return icc


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
