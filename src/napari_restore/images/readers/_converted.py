"""Base of readers whose values are computed from those of another image, pixel by pixel."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.levels._level_view import halved_views

if TYPE_CHECKING:
    from pathlib import Path

    from napari_restore.images._base import ImageBase

Array = npt.NDArray[Any]
CHUNK = 512


class ConvertedReader(Reader):
    """Pixels (H, W, C) computed from those of `image`; place, size and validity are its own.

    Coarser levels are computed from those of the image.
    """

    cached: ClassVar[bool] = True

    def __init__(self, image: ImageBase, dtype: npt.DTypeLike) -> None:
        inner = image.reader
        super().__init__(inner.path)
        self.image = image
        self.name, self.bands, self.dtype = inner.name, inner.bands, np.dtype(dtype)
        self.georeference, self.may_be_invalid = inner.georeference, image.may_be_invalid
        self._views = halved_views(image)
        self.levels = tuple(
            Level(view.height, view.width, *(min(CHUNK, side) for side in view.chunk))
            for view in self._views
        )
        # What has no tiles is decoded as a whole, and cached as that.
        whole = image.chunk[0] * image.chunk[1] * image.bands * image.dtype.itemsize
        self.block_bytes = max(image.block_bytes, whole if max(image.chunk) > CHUNK else 0)
        self.alpha_bands = [band for band, role in enumerate(image.roles) if role == "alpha"]

    @abstractmethod
    def converted(self, pixels: Array) -> Array:
        """Return pixels (h, w, C) of the image as those of this reader."""

    @abstractmethod
    def digest(self) -> str:
        """Return what tells this conversion from others, for the fingerprint."""

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self.converted(self._views[level].read(chunk_box(self.levels[level], row, column)))

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._views[level].read_valid(box)

    def files(self) -> tuple[Path, ...]:
        return self.image.reader.files()

    def fingerprint(self) -> str:
        # Two conversions of one file are two contents.
        named = f"{self.image.reader.fingerprint()} {self.digest()}"
        return hashlib.sha256(named.encode()).hexdigest()

    def close(self) -> None:
        self.image.close()
