"""Scores of a restored image against its clear one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.extension import (
    BadParameter,
    Image,
    InputError,
    Metric,
    RestoreError,
    option,
    psnr,
    strips,
)
from napari_restore_lab.data import border_of

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]

COLOURS = ("red", "green", "blue")
MARGIN = 10
"""Pixels by which the indoor hazy images of RESIDE are cropped on every side."""


@dataclass(frozen=True)
class ScoredRange:
    """Scored bands, and their value range."""

    bands: tuple[int, ...]
    black: tuple[float, ...]
    """Black of each of these bands."""
    white: float
    colour: bool
    """Whether the bands are red, green and blue."""

    def codes(self, pixels: Array) -> Codes:
        """Return (h, w, C) in 8 bits, in the order of `bands`; NaN is black."""
        return codes_of(self.light(pixels))

    def light(self, pixels: Array) -> npt.NDArray[np.float32]:
        """Return (h, w, C), 0 black to 1 white, in the order of `bands`."""
        black = np.asarray(self.black, np.float32)
        light: npt.NDArray[np.float32] = pixels[..., self.bands].astype(np.float32)
        light -= black
        light /= np.float32(self.white) - black
        return light

    def pixels(self, light: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> Array:
        """Return (h, w, C) in the values and the type of the image, the inverse of `light`."""
        black = np.asarray(self.black, np.float32)
        values = np.clip(light, 0, 1) * (np.float32(self.white) - black) + black
        return np.rint(values).astype(dtype) if dtype.kind in "ui" else values.astype(dtype)


def codes_of(light: npt.NDArray[np.float32]) -> Codes:
    """Quantise 0 … 1 to 8 bits; NaN is black."""
    codes: Codes = np.empty(light.shape, np.uint8)
    for rows in strips(*light.shape[:2]):
        shown = np.nan_to_num(np.clip(light[rows] * np.float32(255), 0, 255))
        codes[rows] = np.rint(shown)
    return codes


@dataclass(frozen=True)
class ClearReference:
    """The clear image of a case, as the reference of scores."""

    light: npt.NDArray[np.float32]
    """(h, w, C), 0 black to 1 white."""
    valid: Mask
    """(h, w): where both images are valid."""
    frames: tuple[npt.NDArray[np.float32], ...] = ()
    """Those of a bracket, dark to bright, as `light`."""


def scale_of(image: Image, record: Mapping[str, Any]) -> ScoredRange:
    """Return the scored bands with black and white of the model's input, from the record.

    Red, green and blue where an image has these roles, else all bands but alpha.
    """
    colour = all(role in image.roles for role in COLOURS)
    bands = tuple(image.roles.index(role) for role in COLOURS) if colour else image.data_bands
    black = record["input"]["black"] or [0.0] * image.bands
    return ScoredRange(
        bands, tuple(float(black[b]) for b in bands), float(record["input"]["white"]), colour
    )


def reference_of(
    hazy: Image, clear: Image, scale: ScoredRange, valid: Mask | None, bracket: Image | None = None
) -> ClearReference:
    """Read the clear picture, and the frames of a `bracket`.

    Raises `InputError` if it does not match the hazy one.

    With the dtype of the hazy one it has its black and white; otherwise white is the largest
    integer, or 1 for floats. Invalid are pixels that are invalid in either file, and the black
    border of an image on a map, which is that of a mosaic: a photo may be black at its edges.
    """
    box = box_of(hazy, clear)
    pixels = clear.read(box)
    bands = _bands_of(clear, hazy, scale)
    if clear.dtype == hazy.dtype:
        clear_scale = ScoredRange(bands, scale.black, scale.white, scale.colour)
    else:
        white = 1.0 if clear.dtype.kind == "f" else float(np.iinfo(clear.dtype).max)
        clear_scale = ScoredRange(bands, (0.0,) * len(bands), white, scale.colour)
    counts = clear.read_valid(box) & hazy.read_valid((0, 0, hazy.height, hazy.width))
    if valid is not None:
        counts &= valid
    light = clear_scale.light(pixels)
    frames = () if bracket is None else tuple(scale.light(f.read(box)) for f in bracket.frames)
    if hazy.crs is not None or clear.crs is not None:
        counts &= ~_black_border(codes_of(light))
    return ClearReference(light, counts, frames)


def scores_of(
    pixels: Array, reference: ClearReference, scale: ScoredRange, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Compute every metric of restored pixels (h, w, bands of the image); NaN where undefined.

    Raises `BadParameter` where a metric, which may be of another package, fails.
    """
    light, scores = scale.light(pixels), {}
    for name, metric in metrics.items():
        if (metric.needs_colour and not scale.colour) or (
            metric.needs_frames and not reference.frames
        ):
            scores[name] = float("nan")
            continue
        more = {"frames": reference.frames} if metric.needs_frames else {}
        try:
            value = metric.function(light, reference.light, 1.0, reference.valid, **more)
            scores[name] = float(value)
        except (RestoreError, MemoryError):
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise BadParameter(
                f"The metric {name} failed: {lines[0].rstrip('.')}.",
                f"Leave it out of {option('metrics')}.",
            ) from error
    return scores


def change_of(pixels: Array, source: Array, scale: ScoredRange, valid: Mask) -> dict[str, float]:
    """Measure how far a method changed an image without haze.

    `clear_psnr` in dB; `clear_change`, the median of |change| in 255ths of the range;
    `clear_unchanged`, the share of valid pixels with identical values.
    """
    before, after = source[..., scale.bands], pixels[..., scale.bands]
    if not valid.any():
        return dict.fromkeys(("clear_psnr", "clear_change", "clear_unchanged"), float("nan"))
    first, second = scale.light(source), scale.light(pixels)
    return {
        "clear_psnr": psnr(first, second, 1.0, valid),
        "clear_change": round(float(np.median(np.abs(first - second)[valid])) * 255, 4),
        "clear_unchanged": float((before == after).all(axis=2)[valid].mean()),
    }


def box_of(hazy: Image, clear: Image) -> tuple[int, int, int, int]:
    """Return the part (y0, x0, y1, x1) of the clear image in the hazy one; raises `InputError`.

    `hazy` is on the grid of the results: `Image.resampled` where models give another size.
    """
    size, other = (hazy.height, hazy.width), (clear.height, clear.width)
    if other == size:
        return 0, 0, *size
    if hazy.resampling != 1:
        given = hazy.given
        raise InputError(
            f"Results of scale {hazy.resampling} of {_name(given)} ({given.width} × {given.height} pixels) "
            f"have {size[1]} × {size[0]}, but its clear picture {_name(clear)} has "
            f"{other[1]} × {other[0]}.",
            "Cut the clear picture to multiples of the scale, and make the other from that.",
        )
    if other == (size[0] + 2 * MARGIN, size[1] + 2 * MARGIN):
        return MARGIN, MARGIN, MARGIN + size[0], MARGIN + size[1]
    raise InputError(
        f"{_name(hazy)} has {size[1]} × {size[0]} pixels, but its clear picture {_name(clear)} "
        f"has {other[1]} × {other[0]}.",
        "Cut or scale them to the same size.",
    )


def _bands_of(clear: Image, hazy: Image, scale: ScoredRange) -> tuple[int, ...]:
    if scale.colour and all(role in clear.roles for role in COLOURS):
        return tuple(clear.roles.index(role) for role in COLOURS)
    if clear.bands == hazy.bands:
        return scale.bands
    if len(clear.data_bands) == len(scale.bands):
        return clear.data_bands
    raise InputError(
        f"{_name(hazy)} is compared in {len(scale.bands)} bands, but its clear picture "
        f"{_name(clear)} has {clear.bands}.",
        f"Name them with {option('bands', 'red=1,green=2,blue=3')}.",
    )


def _name(image: Image) -> str:
    return image.name if image.path is None else image.path.name


def _black_border(codes: Codes) -> Mask:
    """Return the black border of a mosaic; an overexposed sky is no border."""
    return border_of(np.minimum(codes, 250))
