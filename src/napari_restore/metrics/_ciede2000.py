"""Perceptual colour difference CIEDE2000."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter
from napari_restore.metrics._comparable import Array, comparable, strips

# CIE XYZ of linear sRGB and of its white, D65 for the 2° observer (IEC 61966-2-1),
# to the digits scikit-image uses.
TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def ciede2000(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return mean CIEDE2000 colour difference ΔE₀₀, 0 for equal images; about 1 is just visible.

    `a` and `b` are (h, w, 3) in sRGB, red green blue from 0 to `data_range`; values outside are
    clipped, as on a screen. They go to CIELAB under D65; kL = kC = kH = 1. Only pixels where
    `valid` (h, w) is true count; NaN where none does. Raises `BadParameter` for other shapes.

    G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 color-difference formula: implementation notes,
    supplementary test data, and mathematical observations", Color Res. Appl. 30(1), 2005,
    doi:10.1002/col.20070. Equal to ``skimage.color.deltaE_ciede2000`` of ``rgb2lab``.
    """
    first, second, counts = comparable(a, b, data_range, valid)
    if first.shape[2] != 3:
        raise BadParameter(
            f"CIEDE2000 compares colours, but these images have {first.shape[2]} bands.",
            "Give red, green and blue.",
        )
    if not counts.any():
        return float("nan")
    total = 0.0
    for rows in strips(*counts.shape):
        valid_rows = counts[rows]
        total += float(
            difference(
                to_lab(first[rows][valid_rows] / data_range),
                to_lab(second[rows][valid_rows] / data_range),
            ).sum()
        )
    return total / int(counts.sum())


def to_lab(rgb: npt.ArrayLike) -> Array:
    """Return CIELAB under D65, L* 0 … 100, of sRGB (n, 3) in 0 … 1."""
    shown = np.clip(np.asarray(rgb, np.float64), 0, 1)
    linear = np.where(shown > 0.04045, ((shown + 0.055) / 1.055) ** 2.4, shown / 12.92)
    xyz = linear @ TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[:, 0], f[:, 1], f[:, 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def difference(lab1: Array, lab2: Array) -> Array:
    """Return ΔE₀₀ (n,) of CIELAB (n, 3) and (n, 3), by the numbered equations of Sharma 2005."""
    (l1, a1, b1), (l2, a2, b2) = lab1.T, lab2.T
    # (2) to (7): greys get more chroma, so that hue means something there.
    c_mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(_seventh(c_mean)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.arctan2(b, a) % (2 * np.pi) for a, b in ((a1, b1), (a2, b2)))
    # (8) to (11): the differences; a grey has no hue to differ by.
    colourful = c1 * c2 > 0
    turn = np.where(colourful, (h2 - h1 + np.pi) % (2 * np.pi) - np.pi, 0)
    # Exactly opposite hues: the difference counts as +180°, whatever the order.
    turn = np.where(turn == -np.pi, np.pi, turn)
    lightness, chroma = l2 - l1, c2 - c1
    hue = 2 * np.sqrt(c1 * c2) * np.sin(turn / 2)
    # (12) to (14): the means.
    l_mean, c_mean = (l1 + l2) / 2, (c1 + c2) / 2
    far = np.abs(h1 - h2) > np.pi
    h_sum = h1 + h2
    around = np.where(h_sum < 2 * np.pi, h_sum + 2 * np.pi, h_sum - 2 * np.pi)
    h_mean = np.where(colourful, np.where(far, around, h_sum) / 2, h_sum)
    # (15) to (21): the weights.
    t = (
        1
        - 0.17 * np.cos(h_mean - np.pi / 6)
        + 0.24 * np.cos(2 * h_mean)
        + 0.32 * np.cos(3 * h_mean + np.deg2rad(6))
        - 0.20 * np.cos(4 * h_mean - np.deg2rad(63))
    )
    bend = np.deg2rad(30) * np.exp(-(((np.rad2deg(h_mean) - 275) / 25) ** 2))
    off_grey = (l_mean - 50) ** 2
    s_l = 1 + 0.015 * off_grey / np.sqrt(20 + off_grey)
    s_c = 1 + 0.045 * c_mean
    s_h = 1 + 0.015 * c_mean * t
    rotation = -np.sin(2 * bend) * 2 * np.sqrt(_seventh(c_mean))
    # (22)
    parts = (lightness / s_l, chroma / s_c, hue / s_h)
    squared = sum(part**2 for part in parts) + rotation * parts[1] * parts[2]
    result: Array = np.sqrt(np.maximum(squared, 0))
    return result


def _seventh(chroma: Array) -> Array:
    seventh: Array = chroma**7
    return seventh / (seventh + 25.0**7)
