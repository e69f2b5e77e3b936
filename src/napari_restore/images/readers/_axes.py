"""Order of named axes, from an array to (H, W, C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._planes import ONE, PlaneAxis, Planes
from napari_restore.images._source import Box


@dataclass(frozen=True)
class Axes:
    """Positions of rows, columns and bands; the others are those of planes."""

    count: int
    y: int
    x: int
    band: tuple[int, ...]
    """Axes whose product is the bands: channels, samples."""
    bands: int
    planes: Planes = ONE
    fixed: tuple[int, ...] = ()
    """Axes of `planes`."""

    @classmethod
    def of_names(cls, names: Sequence[str], shape: Sequence[int], name: str) -> Axes:
        """Return the axes from one lower-case name per axis: y, x, c, s, and others for series."""
        names = [str(n).lower() for n in names]
        if len(names) != len(shape) or names.count("y") != 1 or names.count("x") != 1:
            raise UnreadableImage(
                f"{name} has no rows and columns among its axes ({', '.join(names)}).",
                "Only images are restored.",
            )
        bands = tuple(i for i, n in enumerate(names) if n in ("c", "s", "channel", "band"))
        total = int(np.prod([shape[i] for i in bands], dtype=int)) if bands else 1
        fixed = tuple(
            i
            for i, n in enumerate(names)
            if i not in bands and n not in ("y", "x") and shape[i] > 1
        )
        planes = Planes(
            tuple(PlaneAxis(names[i], int(shape[i])) for i in fixed),
            " ".join(n for n in names if n not in ("y", "x")) if fixed else "",
        )
        y, x = names.index("y"), names.index("x")
        return cls(len(shape), y, x, bands, total, planes, fixed)

    @classmethod
    def guessed(cls, shape: Sequence[int], name: str) -> Axes:
        """Return the axes from a shape alone: (H, W), (H, W, C) or (C, H, W)."""
        if len(shape) == 2:
            return cls.of_names("yx", shape, name)
        if len(shape) == 3:
            return cls.of_names("yxc" if shape[2] <= shape[0] else "cyx", shape, name)
        raise UnreadableImage(
            f"{name} has {len(shape)} axes without names.", "Save it as OME-Zarr, which names them."
        )

    def size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return (height, width)."""
        return int(shape[self.y]), int(shape[self.x])

    chunk = size

    def read(self, array: Any, box: Box, dtype: np.dtype[Any], plane: int = 0) -> npt.NDArray[Any]:
        """Return a new (h, w, C) array of `box` of a plane."""
        where: list[Any] = [0] * self.count
        for axis, index in zip(self.fixed, self.planes.indices(plane), strict=True):
            where[axis] = index
        where[self.y], where[self.x] = slice(box[0], box[2]), slice(box[1], box[3])
        for axis in self.band:
            where[axis] = slice(None)
        part = np.asarray(array[tuple(where)])
        # Fixed axes are gone: determine the new positions of the others.
        remaining = [a for a in range(self.count) if a in (self.y, self.x, *self.band)]
        order = [remaining.index(a) for a in (self.y, self.x, *self.band)]
        turned = part.transpose(order).reshape(box[2] - box[0], box[3] - box[1], self.bands)
        return np.array(turned, dtype, order="C", copy=True)
