"""Lines over the image: the window of a query, or from it to its strongest cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_restore.plugin.areas._drawing_controller import THIN, thin_edge
from napari_restore.plugin.attention._in_one_go import in_one_go
from napari_restore.plugin.layers._placing import plane_of, scale_and_affine

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Vectors

    from napari_restore.explain.attention import HeadMaps

NAME = "Attention · cells"
LINES = 32
"""Strongest cells that lines are drawn to, where they are scattered."""
SCATTERED = ("sparse", "full", "cached")


def add_outline(viewer: ViewerModel, source: ImageLayer) -> Vectors:
    """Add a layer of lines over `source`, still empty, which stay thin as `add_outlines` says."""
    # Not Shapes, which take a tenth of a second for 32 lines.
    matrix = plane_of(source)
    return viewer.add_vectors(
        np.zeros((0, 2, 2)),
        name=NAME,
        vector_style="line",
        edge_color="white",
        edge_width=thin_edge(viewer, matrix),
        **scale_and_affine(matrix),
        # Those of the image, or napari takes pixels for metres.
        units=source.units[-2:],
        metadata={THIN: True, "napari_restore_source": source.unique_id},
    )


def show_outline(layer: Vectors, maps: HeadMaps, head: str) -> None:
    """Draw the lines of a head in place of those before."""
    lines = lines_of(maps, head)
    with in_one_go(layer, rests=True):
        layer.data = np.stack([lines[:, 0], lines[:, 1] - lines[:, 0]], axis=1)


def lines_of(maps: HeadMaps, head: str) -> npt.NDArray[np.float64]:
    """Return (n, 2, 2) ends of lines in pixels of the image: to the strongest cells, or the window."""
    stride = maps.stride
    if maps.site.kind in SCATTERED:
        cells, _ = maps.strongest(head, LINES)
        query = np.array([maps.query.y0 + maps.query.y1 - 1, maps.query.x0 + maps.query.x1 - 1]) / 2
        ends = stride * cells + (stride - 1) / 2
        return np.stack([np.broadcast_to(query, ends.shape), ends], axis=1)
    y0, x0, y1, x1 = (edge * stride - 0.5 for edge in maps.region)
    corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
