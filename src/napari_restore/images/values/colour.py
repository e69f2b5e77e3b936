"""Palettes, printing inks, Lab and premultiplied colours as red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def palette_table(
    colours: Mapping[int, tuple[int, int, int, int]], largest: int
) -> npt.NDArray[np.uint8]:
    """Return (entries, 1 | 3 | 4) colours by palette index: grey, RGB, or RGBA, as needed.

    Indices beyond the palette are black; `largest` is the largest index the file can store.
    """
    table = np.zeros((largest + 1, 4), np.uint8)
    table[:, 3] = 255
    for index, colour in colours.items():
        if 0 <= index <= largest:
            table[index] = colour
    used = table[sorted(i for i in colours if 0 <= i <= largest)]
    if len(used) and not (used[:, 3] == 255).all():
        return table
    if len(used) and (used[:, :1] == used[:, :3]).all():
        return np.ascontiguousarray(table[:, :1])
    return np.ascontiguousarray(table[:, :3])


def cmyk_to_rgb(inks: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (h, w, 4 + extra) inks, 0 … full, as (h, w, 3 + extra) light.

    ``(1 - ink) (1 - black)``. Without the press's profile this is the common approximation.
    """
    full = np.iinfo(inks.dtype).max if inks.dtype.kind in "iu" else 1.0
    light = full - inks[..., :4].astype(np.float32)
    rgb = light[..., :3] * light[..., 3:4] / full
    if inks.dtype.kind in "iu":
        rgb = np.rint(rgb)
    return np.concatenate([rgb.astype(inks.dtype), inks[..., 4:]], axis=2)


def lab_to_srgb(lab: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (h, w, 3) uint8 or uint16 of TIFF's CIELab (D50, signed a and b) as sRGB."""
    if lab.dtype == np.uint8:
        from PIL import Image as Pillow

        picture = Pillow.frombytes("LAB", lab.shape[1::-1], np.ascontiguousarray(lab).tobytes())
        return np.asarray(picture.convert("RGB"))
    import imagecodecs
    from PIL import ImageCms

    # As ICC encodes 16 bits: 0 of a and b at 128 · 257.
    a_and_b = lab[..., 1:].view(np.int16) * (257 / 256) + 128 * 257
    encoded = np.concatenate([lab[..., :1], np.rint(a_and_b).clip(0, 65535)], axis=2)
    return imagecodecs.cms_transform(
        np.ascontiguousarray(encoded.astype(np.uint16)),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        imagecodecs.cms_profile("srgb"),
        colorspace="lab",
        outcolorspace="rgb",
        outdtype=np.uint16,
    )


def straightened(pixels: npt.NDArray[Any], alpha: int) -> npt.NDArray[Any]:
    """Return integers (h, w, C) that were multiplied by the band `alpha`, divided by it again.

    `multiplied` gives them back to the bit. Colours that none can have, above alpha, become white.
    """
    opacity = pixels[..., alpha : alpha + 1].astype(np.float64)
    full = np.iinfo(pixels.dtype).max
    # Where alpha is 0 there is no colour; what is stored stays.
    gain = np.divide(full, opacity, out=np.ones_like(opacity), where=opacity > 0)
    return _scaled_colours(pixels, gain, alpha)


def multiplied(pixels: npt.NDArray[Any], alpha: int) -> npt.NDArray[Any]:
    """Return integers (h, w, C) with all other bands multiplied by the band `alpha`."""
    opacity = pixels[..., alpha : alpha + 1].astype(np.float64)
    gain = np.where(opacity > 0, opacity / np.iinfo(pixels.dtype).max, 1.0)
    return _scaled_colours(pixels, gain, alpha)


def _scaled_colours(
    pixels: npt.NDArray[Any], gain: npt.NDArray[np.float64], alpha: int
) -> npt.NDArray[Any]:
    scaled = np.rint(pixels * gain).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    scaled[..., alpha] = pixels[..., alpha]
    return scaled
