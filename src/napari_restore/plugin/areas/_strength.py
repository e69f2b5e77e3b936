"""Strength that the user paints, or has in a layer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore import Region, api
from napari_restore.errors import BadRegion
from napari_restore.plugin.layers._placing import bounding_region, plane_of, scale_and_affine
from napari_restore.plugin.state._request import Area

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_restore.images import Image

Matrix = npt.NDArray[np.float64]
Place = tuple[float, float, float, float, float, float]
PAINT = "napari_restore_paint"
"""In the metadata of the layer that is made for painting."""
PAINT_SIDE = 2048
"""Pixels on the long side of such a layer: a coarse one over a large image."""
AT_ONCE = 1 << 24
"""Larger layers are read in pieces."""
SAME = 1e-4
"""Places that differ by less, in pixels over the whole image, are one."""


def new_paint_layer(layer: Layer, size: tuple[int, int]) -> Labels:
    """Return an empty layer to paint in, over all of a layer whose image has `size` (h, w)."""
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    step = max(1, -(-max(size) // PAINT_SIDE))
    coarse = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
    matrix = plane_of(layer) @ coarse
    return Labels(
        np.zeros((-(-size[0] // step), -(-size[1] // step)), np.uint8),
        name="Painted strength",
        # The brush is round on the ground where the scale gives a pixel's size.
        **scale_and_affine(matrix),
        units=layer.units[-2:],
        opacity=0.4,
        colormap=DirectLabelColormap(color_dict={0: "transparent", None: "yellow"}),
        metadata={PAINT: True},
    )


def strength_layers(viewer: ViewerModel, layer: Layer | None) -> list[Layer]:
    """Return the layers whose values can be a strength in `layer`, the topmost first."""
    return [x for x in reversed(viewer.layers) if x is not layer and is_strength(x)]


def chosen_strength(viewer: ViewerModel, chosen: Layer | None, layer: Layer) -> Layer | None:
    """Return `chosen` while it is in the viewer, else the topmost layer of labels."""
    from napari.layers import Labels

    offered = strength_layers(viewer, layer)
    if chosen in offered:
        return chosen
    return next((x for x in offered if isinstance(x, Labels)), None)


def is_strength(layer: Layer) -> bool:
    """Return whether a layer is a plane of labels or grey values, and no result."""
    from napari.layers import Image, Labels

    if "napari_restore_source" in layer.metadata:
        return False
    if isinstance(layer, Labels):
        return bool(layer.ndim == 2)
    return isinstance(layer, Image) and layer.ndim == 2 and not layer.rgb


def painted_area(
    viewer: ViewerModel, strength: Layer | None, layer: Layer, image: Image
) -> Callable[[], Area]:
    """Return a function that computes the area of `strength`, by default the topmost layer of labels.

    Call what comes back on another thread: it reads all of them. Both raise `RestoreError`.
    """
    from napari.layers import Labels

    chosen = chosen_strength(viewer, strength, layer)
    if chosen is None:
        raise BadRegion("Nothing is painted yet.", "Press Brush and paint over the image.")
    soft = not isinstance(chosen, Labels)
    make = mask_of_layer(chosen, layer, image)

    def area() -> Area:
        mask, region, pixels = make()
        return Area((region,), mask, soft, pixels)

    return area


def mask_of_layer(
    strength: Layer, layer: Layer, image: Image
) -> Callable[[], tuple[str, Region, int | None]]:
    """Return a function that writes the values of `strength` as a mask of `image`, shown by `layer`.

    It gives the mask's path, the box it lies in, and how many pixels it reaches where
    that is known. A file that the engine places as the window does is taken as it is.
    """
    from napari.layers import Labels

    matrix = np.linalg.inv(plane_of(layer)) @ plane_of(strength)
    whole = Region(0, 0, image.height, image.width)
    file = None if isinstance(strength, Labels) else _file_of(strength, image, matrix)
    if file is not None:
        return lambda: (file, whole, None)
    values = strength.data[0] if strength.multiscale else strength.data
    labels = isinstance(strength, Labels)

    def make() -> tuple[str, Region, int | None]:
        nonlocal values
        region, pixels = whole, None
        if np.prod(values.shape) <= AT_ONCE:
            strengths = np.asarray(values)
            values = (strengths > 0).astype(np.uint8) if labels else strengths
            region, pixels = _reach(values, matrix, whole)
        elif labels:
            values = Positive(values)
        return str(api.mask_of_array(image, values, _place(matrix))), region, pixels

    return make


class Positive:
    """1 where an array (h, w) is above 0; read as it is sliced."""

    dtype = np.dtype(np.uint8)

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape = values.shape

    def __getitem__(self, where: Any) -> npt.NDArray[np.uint8]:
        positive: npt.NDArray[np.uint8] = (np.asarray(self._values[where]) > 0).astype(np.uint8)
        return positive


def _place(matrix: Matrix) -> Place:
    """Convert to (column, row), counted from the corner of the first pixel on both sides."""
    (e, d, f), (b, a, c), _ = matrix.tolist()
    return (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))


def _reach(values: Any, matrix: Matrix, whole: Region) -> tuple[Region, int]:
    """Return the box in the image around all values above 0, and how many pixels they cover."""
    above = np.asarray(values) > 0
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    pixels = round(int(above.sum()) * abs(float(np.linalg.det(matrix[:2, :2]))))
    if rows.size == 0:
        return whole, 0
    top, bottom = rows[0] - 0.5, rows[-1] + 0.5
    left, right = columns[0] - 0.5, columns[-1] + 0.5
    corners = np.array([(r, c, 1) for r in (top, bottom) for c in (left, right)])
    box = bounding_region((corners @ matrix.T)[:, :2], whole.shape)
    if box is None:
        raise BadRegion("What is painted lies outside the image.", "Paint over the image.")
    return box, pixels


def _file_of(strength: Layer, image: Image, matrix: Matrix) -> str | None:
    """Return the file of a layer, if `mask` with it has the same effect as the layer."""
    own = strength.metadata.get("napari_restore")
    if own is None or own.path is None or own.bands != 1 or own.spec != {"source": str(own.path)}:
        return None
    here, there = image.georeference, own.georeference
    if here and there and here.is_placed and there.is_placed and image.crs == own.crs:
        expected = np.linalg.inv(here.to_napari_affine()) @ there.to_napari_affine()
    elif own.shape[:2] == image.shape[:2] and None in (own.transform, image.transform):
        expected = np.eye(3)
    else:
        return None
    far = np.array([own.height, own.width, 1.0])
    same = np.abs((expected - matrix) * far).max() < SAME
    return str(own.path) if same else None
