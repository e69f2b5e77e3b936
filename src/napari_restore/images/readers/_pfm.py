"""Portable float maps (.pfm): linear light or any other floats, of one or three bands."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.images.files.tiff import truncated
from napari_restore.images.readers._whole import Picture, WholeReader

_HEAD = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,32})\s")
_COLOURS = {b"F": ("red", "green", "blue"), b"f": ("gray",)}


class PfmReader(WholeReader):
    """(H, W, 1 or 3) float32 as stored, the lowest row first in the file (Debevec, "PFM format")."""

    KIND = "a portable float map"

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return _HEAD.match(head) is not None

    def _header(self) -> Picture:
        with open_file(self.path) as file:
            found = _HEAD.match(file.read(256))
        assert found is not None, "see `supports`"
        colours, self._start = _COLOURS[found[1]], found.end()
        width, height = int(found[2]), int(found[3])
        claimed = 4 * height * width * len(colours)
        if self.path.stat().st_size < self._start + claimed or not claimed:
            raise truncated(self.path)
        # The sign of the scale is the order of the bytes; its size has no agreed meaning.
        scale = float(found[4])
        self._stored = np.dtype("<f4" if scale < 0 else ">f4")
        if not math.isclose(abs(scale), 1):
            self.notes.append(f"Its scale of {abs(scale):g} is not applied.")
        return Picture(height, width, np.float32, colours, {"driver": "PFM"})

    def _decode(self) -> npt.NDArray[np.float32]:
        shape = *self.levels[0][:2], self.bands
        stored = np.fromfile(self.path, self._stored, math.prod(shape), offset=self._start)
        if stored.size < math.prod(shape):
            raise truncated(self.path)
        return stored.reshape(shape)[::-1].astype(np.float32)
