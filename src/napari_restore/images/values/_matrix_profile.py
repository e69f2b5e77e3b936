"""ICC profiles of three curves and a matrix (ICC.1:2022, 8.3.3), applied in one pass.

Cameras and screens have such profiles. LittleCMS evaluates them stage by stage, ten times slower.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FULL = 65535
_STRIP = 1 << 15
"""Pixels whose values stay in the processor's cache from the first step to the last."""
_CURVES = ("rTRC", "gTRC", "bTRC")
_COLOURS = ("rXYZ", "gXYZ", "bXYZ")
_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve, by its type."""

Plane = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MatrixProfile:
    """Curves from values to light, and the matrix from light to XYZ of D50."""

    curves: npt.NDArray[np.float64]
    """(3, 65536): the light of each value."""
    matrix: npt.NDArray[np.float64]
    """(3, 3): columns are red, green and blue."""


class MatrixTransform:
    """Conversion of 8 or 16 bits from one profile to the 16 bits of another."""

    def __init__(self, source: MatrixProfile, target: MatrixProfile) -> None:
        self._light = source.curves.astype(np.float32)
        self._light8 = np.ascontiguousarray(self._light[:, :: FULL // 255])
        matrix = FULL**2 * np.linalg.inv(target.matrix) @ source.matrix
        self._matrix = matrix.astype(np.float32)
        # By the square root of light, dark values are as fine as in any usual curve.
        light = np.linspace(0, 1, FULL + 1) ** 2
        values = np.linspace(0, FULL, FULL + 1)
        self._values = np.stack(
            [np.rint(np.interp(light, curve, values)) for curve in target.curves]
        ).astype(np.uint16)

    def __call__(self, values: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint16]:
        """Return planes (3, n) of values of the source in the target."""
        out = np.empty(values.shape, np.uint16)
        tables = self._light8 if values.dtype == np.uint8 else self._light
        for left in range(0, values.shape[1], _STRIP):
            part = np.s_[left : left + _STRIP]
            light = [
                np.take(table, plane[part], mode="clip")
                for table, plane in zip(tables, values, strict=True)
            ]
            for plane, row, table in zip(out, self._matrix, self._values, strict=True):
                np.take(table, _root(light, row), out=plane[part], mode="clip")
        return out


def _root(light: list[Plane], row: Plane) -> npt.NDArray[np.int32]:
    """Return the square root of a sum of light, rounded; `row` is scaled for 0 … 65535."""
    total = light[0] * row[0]
    total += light[1] * row[1]
    total += light[2] * row[2]
    # To look for them is quicker than to raise all.
    if total.min() < 0:
        np.maximum(total, 0, out=total)
    np.sqrt(total, out=total)
    total += np.float32(0.5)
    # Quicker than 64 bits, which `take` makes of it by itself.
    rounded: npt.NDArray[np.int32] = total.astype(np.int32)
    return rounded


def matrix_profile(icc: bytes) -> MatrixProfile | None:
    """Return the curves and the matrix of an ICC profile; None where it has others, or none."""
    try:
        if icc[16:24] != b"RGB XYZ ":
            return None
        tags = {name: icc[start : start + size] for name, (start, size) in tag_places(icc).items()}
        if not {*_CURVES, *_COLOURS} <= tags.keys() or "A2B0" in tags or "B2A0" in tags:
            return None
        colours = [_fixed(tags[name], 8, 3) for name in _COLOURS]
        curves = np.stack([_curve(tags[name]) for name in _CURVES])
        matrix = np.array(colours).T
        np.linalg.inv(matrix)
    except (struct.error, ValueError, IndexError, np.linalg.LinAlgError):
        return None
    rises = (np.diff(curves, axis=1) >= 0).all() and np.isfinite(curves).all()
    return MatrixProfile(curves, matrix) if rises else None


def tag_places(icc: bytes) -> dict[str, tuple[int, int]]:
    """Return where each tag of an ICC profile begins, and its bytes; raises `struct.error`."""
    (count,) = struct.unpack_from(">I", icc, 128)
    found = [struct.unpack_from(">4sII", icc, 132 + 12 * n) for n in range(min(count, 256))]
    return {name.decode("latin-1"): (start, size) for name, start, size in found}


def _fixed(tag: bytes, start: int, count: int) -> npt.NDArray[np.float64]:
    """Return numbers of 32 bits, 16 of them after the point."""
    return np.array(struct.unpack_from(f">{count}i", tag, start)) / 65536


def _curve(tag: bytes) -> Curve:
    """Return the light (65536,) of all values, by a tag "curv" or "para"."""
    x: Curve = np.linspace(0, 1, FULL + 1)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        g, a, b, c, d, e, f = (*_fixed(tag, 12, _PARAMETERS[kind]), *[0.0] * 7)[:7]
        if kind == 0:
            power: Curve = x**g
            return power
        # Types 1 and 2 are 0 or c where a x + b would be negative.
        split = d if kind > 2 else -b / a
        above, below = {1: (0, 0), 2: (c, c), 3: (0, c * x), 4: (e, c * x + f)}[kind]
        curve: Curve = np.where(x >= split, np.maximum(a * x + b, 0) ** g + above, below)
        return curve
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count < 2:
        plain: Curve = x ** float(struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1)
        return plain
    table = np.frombuffer(tag, ">u2", count, 12) / FULL
    return np.interp(x, np.linspace(0, 1, count), table)
