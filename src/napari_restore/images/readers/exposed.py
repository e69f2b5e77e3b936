"""Values computed from those of another image, pixel by pixel: photos of light, light of photos."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._base import ImageBase
from napari_restore.images._display_curve import DisplayCurve, light_of_srgb, srgb_of_light
from napari_restore.images._profile import Profile
from napari_restore.images._source import CHUNK, Box, Level, chunk_box
from napari_restore.images.levels.level_view import LevelsReader
from napari_restore.images.values.presets import COLOURS
from napari_restore.images.values.working_space import light_matrix

Array = npt.NDArray[Any]
FULL = 65535


class ConvertedReader(LevelsReader):
    """Pixels (H, W, C) computed from those of `image`, coarser levels from its coarser levels."""

    def __init__(self, image: ImageBase, dtype: npt.DTypeLike) -> None:
        super().__init__(image)
        self.dtype = np.dtype(dtype)
        self.levels = tuple(
            Level(view.height, view.width, *(min(CHUNK, side) for side in view.chunk))
            for view in self._views
        )
        # What has no tiles is decoded as a whole, and cached as that.
        whole = image.chunk[0] * image.chunk[1] * image.bands * image.dtype.itemsize
        self.block_bytes = max(image.block_bytes, whole if max(image.chunk) > CHUNK else 0)
        self.alpha_bands = [band for band, role in enumerate(image.roles) if role == "alpha"]
        is_light = image.dtype.kind == "f" and {*COLOURS} <= {*image.roles}
        self._colours = [image.roles.index(colour) for colour in COLOURS] if is_light else []
        self._matrix = light_matrix(image.profile.icc) if is_light else None

    @abstractmethod
    def converted(self, pixels: Array) -> Array:
        """Return pixels (h, w, C) of the image as those of this reader."""

    def in_srgb(self, light: Array) -> Array:
        """Return linear light of the image, which is overwritten, in the primaries of sRGB."""
        if self._matrix is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                mixed = light[..., self._colours] @ self._matrix.T
            # Infinite light of one colour says nothing of the others.
            light[..., self._colours] = np.where(np.isnan(mixed), light[..., self._colours], mixed)
        return light

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self.converted(self._views[level].read(chunk_box(self.levels[level], row, column)))

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._views[level].read_valid(box)


class ExposedReader(ConvertedReader):
    """Display values (H, W, C) uint16 of linear light `image`, float, exposed by `ev`.

    A value is the sRGB curve of light · 2^ev, cut to 0 … 1 and scaled to 16 bits; alpha only is
    scaled. Light is that of the primaries of its profile, and of sRGB without one.
    """

    def __init__(self, image: ImageBase, ev: float) -> None:
        super().__init__(image, np.uint16)
        self.ev = ev
        self.name += f" {ev:+.3g} EV".replace("-", "−") if ev else " 0 EV"
        self.profile = replace(_without_scale(self.profile), is_display=True)

    def converted(self, pixels: Array) -> Array:
        finite = np.nan_to_num(pixels.astype(np.float32), nan=0, posinf=np.inf, neginf=0)
        light = self.in_srgb(finite)
        with np.errstate(over="ignore"):
            exposed = light * np.float32(2.0**self.ev)
        # Before the curve: light may be near the end of the range of floats.
        shown = srgb_of_light(exposed.clip(0, 1))
        if self.alpha_bands:
            shown[..., self.alpha_bands] = light[..., self.alpha_bands].clip(0, 1)
        result: Array = np.rint(shown * np.float32(FULL)).astype(np.uint16)
        return result

    def digest(self) -> str:
        return f" {self.ev!r}{'' if self._matrix is None else ' sRGB'}"


class LightReader(ConvertedReader):
    """Linear light (H, W, C) float32 of a photo that was exposed by `ev`; 1 is white at 0 EV.

    Integers are taken as display values of the curve of sRGB, in the colours of its profile; floats
    as light of the primaries of its profile, 1 being white of the photo. Alpha is scaled to 0 … 1.
    """

    def __init__(self, image: ImageBase, ev: float, curve: DisplayCurve) -> None:
        super().__init__(image, np.float32)
        self.ev = ev
        self.profile = replace(_without_scale(self.profile), light=curve)
        self._space = image.working_space
        self._gain = np.float32(2.0**-ev)
        self._full = float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else None
        if self._full is not None and (bits := image.profile.bits) is not None:
            self._full = 2.0**bits - 1

    def converted(self, pixels: Array) -> Array:
        values = pixels.astype(np.float32)
        if self._full is None:
            light = np.nan_to_num(self.in_srgb(values))
        else:
            if self._space is not None:
                colours = list(self._space.bands)
                planes = np.stack([pixels[..., band] for band in colours])
                values[..., colours] = np.moveaxis(self._space.to_working(planes), 0, -1)
            values = (values / np.float32(self._full)).clip(0, 1)
            light = light_of_srgb(values)
        result: Array = light * self._gain
        if self.alpha_bands:
            result[..., self.alpha_bands] = values[..., self.alpha_bands]
        return result

    def digest(self) -> str:
        return f" light {self.ev!r}{'' if self._matrix is None else ' sRGB'}"


def _without_scale(profile: Profile) -> Profile:
    """Return the metadata without what is about the values that are converted."""
    return replace(
        profile,
        nodata=None,
        scales=(),
        offsets=(),
        units=(),
        bits=None,
        # The curve is another one now, and the colours are those of sRGB, or taken for them.
        icc=None,
        masks="mask" if profile.masks in ("nodata", "bands") else profile.masks,
    )
