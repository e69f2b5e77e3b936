"""Panels of a figure: how alike the heads of each layer are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_restore.explain.attention._redundancy import Matrix, mean_of_pairs

COLUMNS = 5
SCALE = "viridis"
LABELLED = 8
"""Heads up to which all have their name at the edge."""


def lines_of(matrices: Mapping[str, Matrix]) -> int:
    """Return the lines of panels that so many layers take."""
    return -(-len(matrices) // COLUMNS)


def draw_matrices(
    part: Any, matrices: Mapping[str, Matrix], heads: Mapping[str, tuple[str, ...]]
) -> None:
    """Draw a matrix for each layer into a part of a figure; `heads` are their names."""
    part.suptitle("Likeness of heads (linear CKA of what they put out)", ha="left", x=0.02)
    axes = list(part.subplots(lines_of(matrices), COLUMNS, squeeze=False).ravel())
    drawn = None
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=False):
        axis.set_facecolor("0.8")
        drawn = axis.imshow(matrix, cmap=SCALE, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, pad=2)
        axis.set_xlabel(f"mean {mean_of_pairs(matrix):.2f}")
        ticks = range(len(matrix)) if len(matrix) <= LABELLED else []
        axis.set_xticks([])
        axis.set_yticks(ticks, [heads[name][tick] for tick in ticks])
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    part.colorbar(drawn, ax=axes, label="CKA", fraction=0.02, pad=0.01)
