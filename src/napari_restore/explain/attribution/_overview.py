"""Shares of the pixels of the overview that a model's statistics are computed from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

BLOCKS = 96
"""Blocks along the longer side of an overview in which its shares are shown."""


@dataclass(frozen=True)
class OverviewShares:
    """Shares of the pixels of the overview, from which the whole-image statistics are computed."""

    values: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands), in units of the objective."""
    step: int
    """Side of an overview pixel in pixels of the image."""
    corner: tuple[int, int]
    """Position (y, x) of the first overview pixel in the image."""

    def blocks(self) -> tuple[npt.NDArray[np.float64], int]:
        """Return sums over bands and square blocks, (h, w) with h, w ≤ `BLOCKS`, and a block's side in pixels."""
        height, width = self.values.shape[:2]
        # Single pixels would be too small to be visible.
        side = -(-max(height, width) // BLOCKS)
        rows, columns = np.arange(0, height, side), np.arange(0, width, side)
        signed = self.values.sum(axis=2, dtype=np.float64)
        sums: npt.NDArray[np.float64] = np.add.reduceat(
            np.add.reduceat(signed, rows, axis=0), columns, axis=1
        )
        return sums, side * self.step

    def density(self) -> npt.NDArray[np.float32]:
        """Return the mean share of a pixel of the image in each of `blocks`, (h, w), on the overview's own grid."""
        sums, side = self.blocks()
        rows, columns = (np.arange(n) * self.step // side for n in self.values.shape[:2])
        # The last blocks end with the image.
        pixels = np.bincount(rows)[:, None] * np.bincount(columns) * self.step**2
        # It is on one scale with a map of the pixels, as sums of blocks are not.
        return (sums / pixels).astype(np.float32)[np.ix_(rows, columns)]
