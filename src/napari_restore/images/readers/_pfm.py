"""Portable float maps (.pfm): linear light or any other floats, of one or three bands."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.images._profile import Profile
from napari_restore.images.files.tiff import truncated
from napari_restore.images.readers._whole import WholeReader

_HEAD = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,32})\s")
_COLOURS = {b"F": ("red", "green", "blue"), b"f": ("gray",)}


class PfmReader(WholeReader):
    """(H, W, 1 or 3) float32 as stored, the lowest row first in the file (Debevec, "PFM format")."""

    PRIORITY: ClassVar[int] = 40
    random_access = False

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return _HEAD.match(head) is not None

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        with open_file(path) as file:
            found = _HEAD.match(file.read(256))
        assert found is not None, "see `supports`"
        colours, self._start = _COLOURS[found[1]], found.end()
        width, height = int(found[2]), int(found[3])
        self.bands, self.dtype = len(colours), np.dtype(np.float32)
        claimed = height * width * self.bands * self.dtype.itemsize
        if path.stat().st_size < self._start + claimed or not claimed:
            raise truncated(path)
        self._take_size(height, width)
        # The sign of the scale is the order of the bytes; its size has no agreed meaning.
        scale = float(found[4])
        self._stored = np.dtype("<f4" if scale < 0 else ">f4")
        if not math.isclose(abs(scale), 1):
            self.notes.append(f"Its scale of {abs(scale):g} is not applied.")
        self.profile = Profile(driver="PFM", colorinterp=colours)

    def _decode(self) -> npt.NDArray[np.float32]:
        shape = *self.levels[0][:2], self.bands
        stored = np.fromfile(self.path, self._stored, math.prod(shape), offset=self._start)
        if stored.size < math.prod(shape):
            raise truncated(self.path)
        return stored.reshape(shape)[::-1].astype(np.float32)
