"""A picture of light as a photo with a given exposure shows it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.images._profile import Profile
from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.levels._level_view import halved_views
from napari_restore.images.values._srgb import srgb_of_light

if TYPE_CHECKING:
    from pathlib import Path

    from napari_restore.images._base import ImageBase

Array = npt.NDArray[Any]
CHUNK = 512
FULL = 65535


class ExposedReader(Reader):
    """Display values (H, W, C) uint16 of linear light `image`, float, exposed by `ev`.

    A value is the sRGB curve of light · 2^ev, cut to 0 … 1 and scaled to 16 bits; alpha only is
    scaled. Coarser levels are exposed by themselves, from those of the light.
    """

    cached: ClassVar[bool] = True

    def __init__(self, image: ImageBase, ev: float) -> None:
        inner = image.reader
        super().__init__(inner.path)
        self.image, self.ev = image, ev
        self.name = f"{inner.name} {ev:+.3g} EV".replace("-", "−") if ev else f"{inner.name} 0 EV"
        self.bands, self.dtype = inner.bands, np.dtype(np.uint16)
        self.georeference, self.may_be_invalid = inner.georeference, image.may_be_invalid
        self.profile = _display_profile(inner.profile)
        self._views = halved_views(image)
        self.levels = tuple(
            Level(view.height, view.width, *(min(CHUNK, side) for side in view.chunk))
            for view in self._views
        )
        # Light that has no tiles is decoded as a whole, and cached as that.
        whole = image.chunk[0] * image.chunk[1] * image.bands * image.dtype.itemsize
        self.block_bytes = max(image.block_bytes, whole if max(image.chunk) > CHUNK else 0)
        self._data = [band for band, role in enumerate(image.roles) if role != "alpha"]

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        light = self._views[level].read(chunk_box(self.levels[level], row, column))
        light = np.nan_to_num(light.astype(np.float32), nan=0, posinf=np.inf, neginf=0)
        with np.errstate(over="ignore"):
            shown = light * np.float32(2.0**self.ev)
        # Before the curve: light may be near the end of the range of floats.
        np.clip(shown, 0, 1, out=shown)
        if len(self._data) == self.bands:
            shown = srgb_of_light(shown)
        else:
            alpha = np.delete(np.arange(self.bands), self._data)
            shown[..., alpha] = light[..., alpha].clip(0, 1)
            shown[..., self._data] = srgb_of_light(shown[..., self._data])
        result: Array = np.rint(shown * np.float32(FULL)).astype(np.uint16)
        return result

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._views[level].read_valid(box)

    def files(self) -> tuple[Path, ...]:
        return self.image.reader.files()

    def fingerprint(self) -> str:
        # Two exposures of one file are two contents.
        named = f"{self.image.reader.fingerprint()} {self.ev!r}"
        return hashlib.sha256(named.encode()).hexdigest()

    def close(self) -> None:
        self.image.close()


def _display_profile(light: Profile) -> Profile:
    """Return the metadata of a picture for the screen: sRGB, without what is about light's values."""
    return replace(
        light,
        nodata=None,
        scales=(),
        offsets=(),
        units=(),
        bits=None,
        # Its curve is another one now, and its colours are taken for those of sRGB.
        icc=None,
        masks="mask" if light.masks == "nodata" else light.masks,
        is_photo=True,
    )
