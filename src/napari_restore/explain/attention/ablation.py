"""Ablation: what a part of the result would be without one head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadRegion
from napari_restore.explain.kinds import KINDS, Kind
from napari_restore.images import Image

AROUND = 128
"""Pixels around a point in which the effect of a head is computed."""
LARGEST = 2048
"""Most pixels along a side of a box in which it is."""


@dataclass(frozen=True)
class HeadEffect:
    """What one head does to the result in a box."""

    layer: str
    head: str
    region: Region
    difference: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands): the result without the head minus the result, in model range."""

    @property
    def kind(self) -> Kind:
        """What the difference is, in words and by its scale."""
        return KINDS["without"]

    def to_dict(self) -> dict[str, Any]:
        """Return numbers for tables: mean and largest magnitude, and the PSNR of one to the other."""
        size = np.abs(self.difference)
        mean_square = float(np.square(self.difference, dtype=np.float64).mean())
        return {
            "without_mean": float(size.mean()),
            "without_largest": float(size.max(initial=0.0)),
            "without_db": None if mean_square == 0 else -10 * float(np.log10(mean_square)),
        }


def ablated_region(query: Region, image: Image) -> Region:
    """Return the box in which a head's effect is computed: the query's, or around its point."""
    box = query.expand(AROUND) if query.pixels == 1 else query
    inside = box.intersect(Region(0, 0, image.height, image.width))
    if max(inside.shape) > LARGEST:
        raise BadRegion(
            f"A box of {inside.width} × {inside.height} pixels is too large to leave heads out.",
            f"Choose one of at most {LARGEST} pixels along a side.",
        )
    return inside
