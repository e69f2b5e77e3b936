"""MEF-SSIM: how much of the structure of all frames a fused picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter
from napari_restore.metrics._comparable import Array, Mask, mask_of
from napari_restore.metrics._ssim import K2, WINDOW, any_in_window, blurred

GREY = (0.299, 0.587, 0.114)
LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001)
"""Of the scales fine to coarse; they are divided by their sum."""
MOST_POWER = 10.0
"""Largest exponent of the weights of structures."""
ROUNDING = 1e-3
"""Added to the size of a structure where it is divided by, in 255ths."""


def mef_ssim(
    fused: npt.ArrayLike,
    frames: Sequence[npt.ArrayLike],
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return the multi-scale MEF-SSIM of a fused image, at most 1.

    For every 11 × 11 window the frames' contents without their means are mixed to one structure,
    the more of those that are strong where they agree; its size is that of the strongest. SSIM
    without the term of means compares the fused image with it. Three scales, by means of 2 × 2
    pixels.

    Parameters
    ----------
    fused
        (h, w) or (h, w, 3), any real type.
    frames
        The bracket, each of that shape.
    data_range
        Distance of white from black in their units.
    valid
        (h, w) bool: windows with a pixel that is not valid do not count. NaN where none does.

    K. Ma, K. Zeng, Z. Wang, "Perceptual quality assessment for multi-exposure image fusion", IEEE
    Trans. Image Process. 24(11), 2015, doi:10.1109/TIP.2015.2442920.
    """
    grey, counts = grey_and_mask(fused, frames, data_range, valid)
    weights = np.divide(LEVEL_WEIGHTS, sum(LEVEL_WEIGHTS))
    product = 1.0
    for level, weight in enumerate(weights):
        if level:
            grey = [_halved(image) for image in grey]
            counts = _halved(counts.astype(np.float64)) == 1
        score = _at_one_scale(grey[0], grey[1:], counts)
        # A negative similarity has no real power.
        product *= np.sign(score) * abs(score) ** weight
    return float(product)


def _at_one_scale(fused: Array, frames: Sequence[Array], counts: Mask) -> float:
    if min(fused.shape) < WINDOW:
        return float("nan")
    whole = ~any_in_window(~counts)
    if not whole.any():
        return float("nan")
    return float(similarity(fused, frames, _shares(frames))[whole].mean())


def similarity(fused: Array, frames: Sequence[Array], shares: Array) -> Array:
    """Return SSIM without its term of means of an image and a mixture of frames, for every window.

    Images are (h, w), 0 to 255; `shares` (frames, h - 10, w - 10) has the factors of the frames'
    contents in the mixture of a window.
    """
    means = [blurred(frame) for frame in frames]
    mean = blurred(fused)
    shared = np.zeros_like(mean)
    spread = np.zeros_like(mean)
    for k, frame in enumerate(frames):
        shared += shares[k] * (blurred(frame * fused) - means[k] * mean)
    for k, other in combinations_with_replacement(range(len(frames)), 2):
        product = blurred(frames[k] * frames[other]) - means[k] * means[other]
        spread += (1 if k == other else 2) * shares[k] * shares[other] * product
    constant = (K2 * 255) ** 2
    similar: Array = (2 * shared + constant) / (spread + blurred(fused**2) - mean**2 + constant)
    return similar


def _shares(frames: Sequence[Array]) -> Array:
    """Return the shares of MEF-SSIM: weights (‖x̃‖ / 11)^p.

    x̃ is a frame's content without its mean, and p follows from how much the contents agree.
    """
    inner = inner_products(frames)
    lengths = lengths_of(inner)
    together = np.sqrt(np.maximum(inner.sum((0, 1)), 0))
    agreement = (together + ROUNDING) / (lengths.sum(0) + ROUNDING)
    power = np.clip(np.tan(np.pi / 2 * np.minimum(agreement, 1)), 0, MOST_POWER)
    return shares_of((lengths / WINDOW) ** power + ROUNDING, inner)


def shares_of(weights: Array, inner: Array) -> Array:
    """Return the factors (frames, h - 10, w - 10) of frames' contents in the wanted structure.

    With x̃ a frame's content without its mean: Σ w x̃ / ‖x̃‖, scaled to the length of the longest x̃.
    `weights` (frames, h - 10, w - 10) has w, in any unit; `inner` is of `inner_products`.
    """
    lengths = lengths_of(inner)
    weights = weights / weights.sum(0) / (lengths + ROUNDING)
    length = np.sqrt(np.maximum(np.einsum("khw,lhw,klhw->hw", weights, weights, inner), 0))
    scale = lengths.max(0) / np.maximum(length, np.finfo(np.float64).tiny)
    shares: Array = weights * np.where(length > 0, scale, 0)
    return shares


def inner_products(frames: Sequence[Array]) -> Array:
    """Return the inner products (frames, frames, h - 10, w - 10) of contents without their means."""
    count = len(frames)
    inner = np.empty((count, count, *(side - WINDOW + 1 for side in frames[0].shape)))
    boxes = [_box(frame) for frame in frames]
    for k, other in combinations_with_replacement(range(count), 2):
        product = _box(frames[k] * frames[other]) - boxes[k] * boxes[other] / WINDOW**2
        inner[k, other] = inner[other, k] = product
    return inner


def lengths_of(inner: Array) -> Array:
    """Return the lengths (frames, h - 10, w - 10) of contents from their inner products."""
    lengths: Array = np.sqrt(np.maximum(np.einsum("kkhw->khw", inner), 0))
    return lengths


def _box(image: Array) -> Array:
    """Return the sums over all whole windows (h − 10, w − 10)."""
    for axis in (0, 1):
        sums = np.cumsum(image, axis=axis)
        first = np.take(sums, [WINDOW - 1], axis=axis)
        length = image.shape[axis]
        later = np.take(sums, range(WINDOW, length), axis=axis)
        before = np.take(sums, range(length - WINDOW), axis=axis)
        image = np.concatenate([first, later - before], axis=axis)
    return image


def grey_and_mask(
    fused: npt.ArrayLike,
    frames: Sequence[npt.ArrayLike],
    data_range: float,
    valid: npt.ArrayLike | None,
) -> tuple[list[Array], Mask]:
    """Return the fused image and its frames in grey (h, w), 0 to 255, and which pixels count.

    Raises `BadParameter` where sizes differ.
    """
    grey = [_grey(image, data_range) for image in (fused, *frames)]
    if len(grey) < 2 or any(image.shape != grey[0].shape for image in grey):
        raise BadParameter(
            "MEF-SSIM compares an image with frames of its size.", "Give at least one, all alike."
        )
    return grey, mask_of(valid, grey[0].shape)


def _grey(image: npt.ArrayLike, data_range: float) -> Array:
    values = np.asarray(image).astype(np.float64)
    if values.ndim == 3:
        values = values @ GREY if values.shape[2] == 3 else values.mean(2)
    scaled: Array = values * (255 / data_range)
    return scaled


def _halved(image: Array) -> Array:
    height, width = (side // 2 * 2 for side in image.shape)
    cut = image[:height, :width]
    return (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) / 4
