"""How the bands of an image become what a napari layer shows."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.images import Image

LOW, HIGH = 0.5, 99.5
"""Percentiles of a coarse level between which grey values are spread."""
SAMPLE_SIDE = 512
"""Contrast is judged on at most this many pixels squared."""

LIMITS = "napari_restore_limits"
"""In the metadata of layers: contrast limits that were found. Others are the user's."""


class Display(Enum):
    """The axes of a layer made from pixels (y, x, band)."""

    COLOUR = "colour"
    """(y, x, rgb or rgba), shown in colour."""
    GREY = "grey"
    """(y, x): the one band."""
    BANDS = "bands"
    """(band, y, x): a slider steps through the bands."""

    @classmethod
    def of_image(cls, image: Image) -> Display:
        """Colour where the bands are red, green, blue (and alpha) in 8 bit.

        Other depths would be shown at the scale of their whole type: 12 bits in 16
        are black. They, and other bands, are stepped through with true values.
        """
        roles = tuple(image.roles)
        in_order = roles in (("red", "green", "blue"), ("red", "green", "blue", "alpha"))
        if in_order and image.dtype == np.uint8:
            return cls.COLOUR
        return cls.GREY if image.bands == 1 else cls.BANDS

    @classmethod
    def of_layer(cls, layer: ImageLayer) -> Display:
        """As an existing layer shows its pixels."""
        if layer.rgb:
            return cls.COLOUR
        return cls.GREY if layer.ndim == 2 else cls.BANDS

    @property
    def ndim(self) -> int:
        """Dimensions of the layer; colour is none."""
        return 3 if self is Display.BANDS else 2

    def shown(self, pixels: Any, image: Image) -> Any:
        """Pixels (y, x, band), numpy or dask, of `image` as the layer shows them.

        Photos with a colour profile of their own come in sRGB: napari's screen knows
        no other. The image itself, and with it what is restored and saved, keeps its
        own values.
        """
        return self.arrange(in_srgb(pixels, image) if self is Display.COLOUR else pixels)

    def arrange(self, pixels: Any) -> Any:
        """Pixels (y, x, band), numpy or dask, in the layer's order of axes."""
        if self is Display.GREY:
            return pixels[..., 0]
        if self is Display.BANDS:
            return pixels.transpose(2, 0, 1)
        return pixels


def in_srgb(pixels: Any, image: Image) -> Any:
    """8 bit colours (y, x, rgb or rgba) of `image` in sRGB; dask arrays chunk by chunk."""
    space = image.working_space
    if space is None or pixels.dtype != np.uint8:
        return pixels
    if isinstance(pixels, np.ndarray):
        return space.to_display(pixels)
    return pixels.map_blocks(
        space.to_display, dtype=pixels.dtype, meta=np.empty((0, 0, 0), np.uint8)
    )


def contrast_limits(image: Image) -> tuple[float, float]:
    """(low, high) from the coarsest level, or, while that is not made, from a part of another."""
    level = len(image.level_shapes) - 1
    whole = (0, 0, *image.level_shapes[level])
    if level > 0 and image.read_valid(whole, level).any():
        pixels = image.read(whole, level)
        if pixels.any() or level < image.stored_levels:
            return limits_of(without_alpha(pixels, image), image.read_valid(whole, level))
    level = min(level, image.stored_levels - 1)
    if level == 0 and not image.source.random_access:
        # Reading would wait for the whole file.
        return type_range(image.dtype)
    height, width = image.level_shapes[level]
    rows, columns = min(height, SAMPLE_SIDE), min(width, SAMPLE_SIDE)
    y, x = (height - rows) // 2, (width - columns) // 2
    box = (y, x, y + rows, x + columns)
    return limits_of(without_alpha(image.read(box, level), image), image.read_valid(box, level))


def without_alpha(pixels: Any, image: Image) -> Any:
    """Pixels (h, w, C) less the band that is no brightness."""
    bright = [number for number, role in enumerate(image.roles) if role != "alpha"]
    return pixels[..., bright] if 0 < len(bright) < pixels.shape[2] else pixels


def limits_of(pixels: Any, valid: Any) -> tuple[float, float]:
    """Percentiles of the valid pixels (h, w, C); their type's range if there are none."""
    values = pixels[valid]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return type_range(pixels.dtype)
    low, high = (float(v) for v in np.percentile(values, (LOW, HIGH)))
    return (low, high) if low < high else (low, low + 1.0)


def type_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """All an integer type holds; 0 … 1 for floats."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return 0.0, 1.0
