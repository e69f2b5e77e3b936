"""The part of an image that is on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.errors import BadRegion

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


def visible_region(viewer: ViewerModel, layer: Layer, size: tuple[int, int]) -> Region:
    """Return the level-0 pixels of `layer` on the canvas, clipped to `size` = (height, width).

    From canvas and camera: `layer.corner_pixels` grows to chunk boundaries and does
    not shrink again when the user zooms in (napari 0.9). Raises `BadRegion`.
    """
    if viewer.dims.ndisplay != 2:
        raise BadRegion("There is no visible region in the 3D view.", "Switch to the 2D view.")
    height, width = viewer.canvas.viewbox_size(viewer.layers)
    camera = viewer.scene.camera
    half = np.array([height, width]) / camera.zoom / 2
    centre = np.array(camera.center[-2:])
    corners = [centre + half * (dy, dx) for dy in (-1, 1) for dx in (-1, 1)]
    inside = bounding_region(in_data(viewer, layer, corners), size)
    if inside is None:
        raise BadRegion(
            f"Nothing of {layer.name} is in view.",
            "Pan back to it, or press Home to see all of it.",
        )
    return inside


def in_data(
    viewer: ViewerModel, layer: Layer, points: list[npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Return world points (y, x) of the displayed axes as a layer's (row, column), shape (n, 2)."""
    rows = []
    for point in points:
        position = np.array(viewer.dims.point, float)
        position[list(viewer.dims.displayed)] = point
        rows.append(layer.world_to_data(position)[-2:])
    return np.array(rows)


def bounding_region(points: npt.NDArray[np.float64], size: tuple[int, int]) -> Region | None:
    """Return the pixels that points (row, column) enclose, inside an image; None if there are none.

    A pixel's centre has whole coordinates, so its edges lie half a pixel away.
    """
    if not np.isfinite(points).all():
        return None
    low = np.floor(points.min(0) + 0.5 + 1e-6)
    high = np.ceil(points.max(0) + 0.5 - 1e-6)
    # Clipped as floats: far zoomed out they may not fit an int.
    y0, x0 = np.clip(low, 0, size).astype(int)
    y1, x1 = np.clip(high, 0, size).astype(int)
    region = Region(int(y0), int(x0), int(y1), int(x1))
    return None if region.is_empty else region
