"""Areas, gradients and strength that the user has drawn, painted, or has in a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psygnal
from napari.layers import Image as ImageLayer, Labels, Layer, Shapes
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QObject

from napari_restore import Region, api
from napari_restore.errors import BadRegion, RestoreError
from napari_restore.plugin.layers.placing import (
    bounding_region,
    in_data,
    plane_of,
    scale_and_affine,
    visible_region,
)
from napari_restore.plugin.state.request import Area, NotReady, TargetChoice
from napari_restore.plugin.state.state import Connections, RestoreState, image_of
from napari_restore.plugin.tasks.task import LatestQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image


Matrix = npt.NDArray[np.float64]
Place = tuple[float, float, float, float, float, float]
PAINT = "napari_restore_paint"
"""In the metadata of the layer that is made for painting."""
PAINTED = "Painted strength"
"""Name of that layer."""
PAINT_SIDE = 2048
"""Pixels on the long side of such a layer: a coarse one over a large image."""
AT_ONCE = 1 << 24
"""Larger layers are read in pieces."""
SAME = 1e-4
"""Places that differ by less, in pixels over the whole image, are one."""


def new_paint_layer(layer: Layer, size: tuple[int, int]) -> Labels:
    """Return an empty layer to paint in, over all of a layer whose image has `size` (h, w)."""
    step = max(1, -(-max(size) // PAINT_SIDE))
    coarse = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
    matrix = plane_of(layer) @ coarse
    return Labels(
        np.zeros((-(-size[0] // step), -(-size[1] // step)), np.uint8),
        name=PAINTED,
        # The brush is round on the ground where the scale gives a pixel's size.
        **scale_and_affine(matrix),
        units=layer.units[-2:],
        opacity=0.4,
        colormap=_paint(OF_AREAS),
        metadata={PAINT: True},
    )


def _paint(colour: str) -> DirectLabelColormap:
    return DirectLabelColormap(color_dict={0: "transparent", None: colour})


def strength_layers(viewer: ViewerModel, layer: Layer | None) -> list[Layer]:
    """Return the layers whose values can be a strength in `layer`, the topmost first."""
    fits = (x for x in reversed(viewer.layers) if x is not layer and EXCLUDED not in x.metadata)
    return [x for x in fits if is_strength(x)]


def chosen_strength(viewer: ViewerModel, chosen: Layer | None, layer: Layer) -> Layer | None:
    """Return `chosen` while it is in the viewer, else the topmost layer of labels."""
    offered = strength_layers(viewer, layer)
    if chosen in offered:
        return chosen
    return next((x for x in offered if isinstance(x, Labels)), None)


def is_strength(layer: Layer) -> bool:
    """Return whether a layer is a plane of labels or grey values, and no result."""
    if "napari_restore_source" in layer.metadata:
        return False
    if isinstance(layer, Labels):
        return bool(layer.ndim == 2)
    return isinstance(layer, ImageLayer) and layer.ndim == 2 and not layer.rgb


def painted_area(
    viewer: ViewerModel, strength: Layer | None, layer: Layer, image: Image
) -> Callable[[], Area]:
    """Return a function that computes the area of `strength`, by default the topmost layer of labels.

    Call what comes back on another thread: it reads all of them. Both raise `RestoreError`.
    """
    chosen = chosen_strength(viewer, strength, layer)
    if chosen is None:
        raise BadRegion("Nothing is painted yet.", "Press Brush and paint over the image.")
    return area_of_layer(chosen, layer, image)


def area_of_layer(strength: Layer, layer: Layer, image: Image) -> Callable[[], Area]:
    """Return a function that writes the values of `strength` as a mask of `image`, shown by `layer`."""
    import dask.array as da

    # A file that the engine places as the window does is taken as it is.
    matrix = np.linalg.inv(plane_of(layer)) @ plane_of(strength)
    whole = Region(0, 0, image.height, image.width)
    labels = isinstance(strength, Labels)
    file = None if labels else _file_of(strength, image, matrix)
    if file is not None:
        return lambda: Area((whole,), file, True)
    values = strength.data[0] if strength.multiscale else strength.data

    def area() -> Area:
        nonlocal values
        region, pixels = whole, None
        if np.prod(values.shape) <= AT_ONCE:
            strengths = np.asarray(values)
            values = (strengths > 0).astype(np.uint8) if labels else strengths
            region, pixels = _reach(values, matrix, whole)
        elif labels:
            values = (da.asarray(values, name=False) > 0).astype(np.uint8)
        mask = str(api.mask_of_array(image, values, _place(matrix)))
        return Area((region,), mask, not labels, pixels)

    return area


def segments_of_layer(labels: Labels, layer: Layer, image: Image) -> Callable[[], str]:
    """Return a function, for another thread, that writes labels as a raster on the grid of `image` in `layer`."""
    matrix = np.linalg.inv(plane_of(labels)) @ plane_of(layer)
    values = labels.data[0] if labels.multiscale else labels.data
    on_grid = OnGrid(values, matrix, (image.height, image.width))
    return lambda: str(api.mask_of_array(image, on_grid, (1, 0, 0, 0, 1, 0)))


class OnGrid:
    """The nearest of labels (h, w) for each pixel of an image, 0 beside them; read by slices."""

    dtype = np.dtype(np.int32)

    def __init__(self, labels: Any, matrix: Matrix, size: tuple[int, int]) -> None:
        """`matrix` takes pixels (y, x, 1) of the image to those of the labels."""
        self._labels, self._matrix = labels, matrix
        self.shape = size

    def __getitem__(self, where: tuple[slice, slice]) -> npt.NDArray[np.int32]:
        rows, columns = (
            np.arange(*part.indices(side)) for part, side in zip(where, self.shape, strict=True)
        )
        y, x = np.meshgrid(rows, columns, indexing="ij")
        at = [np.rint(a * y + b * x + c).astype(np.int64) for a, b, c in self._matrix[:2]]
        found = np.zeros(y.shape, np.int32)
        inside = np.ones(y.shape, bool)
        for place, side in zip(at, self._labels.shape, strict=True):
            inside &= (place >= 0) & (place < side)
        if inside.any():
            # Read as a box: the labels may lie on disk.
            (top, bottom), (left, right) = ((p[inside].min(), p[inside].max() + 1) for p in at)
            part = np.asarray(self._labels[top:bottom, left:right])
            found[inside] = part[at[0][inside] - top, at[1][inside] - left]
        return found


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


class AreaController(QObject):
    """Computes the area of a viewer's target."""

    # Masks of painted layers are read and written on another thread, everything else is found at
    # once.

    found = psygnal.Signal()
    """A mask that was not ready has been written, or cannot be."""
    changed = psygnal.Signal()
    """What was drawn or painted has changed."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._state = state
        self._watch = LayerWatch(self, self.changed.emit)
        self._query = LatestQuery("The mask cannot be made", self, self._on_mask)
        self._mask: tuple[Any, Area | RestoreError] | None = None
        self._waiting: Callable[[], None] | None = None

    def area(self, layer: ImageLayer) -> Area:
        """Return the area of the target now; raises `RestoreError`, `NotReady` while it is made."""
        state, viewer = self._state, self._viewer
        image = image_of(layer)
        self._watch.follow(self._drawn_in(layer))
        make = area_of(state, viewer, layer, image)
        if state.target is not TargetChoice.PAINTED:
            self._query.discard()
            self._waiting = None
            return make()
        key = (id(layer), id(self._watch.layer), self._watch.version)
        if self._mask is None or self._mask[0] != key:
            self._query.submit(key, make)
            raise NotReady("The mask is being made.", "It takes a moment.")
        result = self._mask[1]
        if isinstance(result, RestoreError):
            raise result
        return result

    def when_found(self, then: Callable[[], None]) -> None:
        """Call `then` once, after the mask that was not ready is there."""
        self._waiting = then

    def _drawn_in(self, layer: ImageLayer) -> Layer | None:
        """Return the layer whose changes change the area."""
        target, viewer = self._state.target, self._viewer
        if target is TargetChoice.DRAWN:
            return areas_layer(viewer)
        if target is TargetChoice.GRADIENT:
            return gradient_layer(viewer)
        if target is not TargetChoice.PAINTED:
            return None
        return chosen_strength(viewer, self._state.strength_layer, layer)

    def _on_mask(self, key: Any, result: Any) -> None:
        self._mask = (key, result)
        self.found.emit()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()


EVERY = ("scale", "translate", "rotate", "shear", "affine", "data")
SHAPES = ("mode",)
"""Of a Shapes layer: selected shapes count only while the user selects."""
LABELS = ("paint", "labels_update", "set_data")
"""Of a Labels layer: a stroke, its parts, and what undo does."""


class LayerWatch:
    """Calls back for one layer at a time; `version` counts its changes."""

    def __init__(self, owner: QObject, changed: Callable[[], None]) -> None:
        self.layer: Layer | None = None
        self.version = 0
        self._changed = changed
        self._connections = Connections(owner)

    def follow(self, layer: Layer | None) -> None:
        """Watch `layer` instead of the one before; None watches nothing."""
        if layer is self.layer:
            return
        self.layer = layer
        events = [] if layer is None else _events_of(layer)
        self._connections.turn(*((event, self._on_change) for event in events))
        self.version += 1

    def _on_change(self, event: Any = None) -> None:
        self.version += 1
        self._changed()


def _events_of(layer: Layer) -> list[Any]:
    names: tuple[str, ...] = EVERY
    extra: list[Any] = []
    if isinstance(layer, Shapes):
        names = (*EVERY, *SHAPES)
        extra.append(layer.selected_data.events.items_changed)
    elif isinstance(layer, Labels) and not layer.multiscale:
        names = (*EVERY, *LABELS)
    return [*(getattr(layer.events, name) for name in names), *extra]


Points = npt.NDArray[np.float64]
AREAS = "Areas to restore"
"""Name of the layer that the tools make."""
GRADIENT = "napari_restore_gradient"
"""In the metadata of the layer of a gradient's line."""
EXCLUDED = "napari_restore_excluded"
"""In the metadata of a layer whose areas are excluded, its name before: they are none to restore."""
OF_AREAS, OF_EXCLUDED = "yellow", "red"
"""The colours of areas to restore and of excluded ones."""
THIN = "napari_restore_drawn"
"""In the metadata of Shapes and Vectors layers whose edges are kept thin."""
TARGETS_OF = "napari_restore_targets_of"
"""In the metadata of a layer of attribution targets: the identity of the image's layer."""
CLOSED = ("rectangle", "polygon", "ellipse")
SELECTING = ("select", "direct", "vertex_insert", "vertex_remove")
"""Modes in which the user selects shapes; otherwise the one drawn last is selected."""
ELLIPSE_POINTS = 64
STRAIGHT = 1e-3
"""Pixels by which the corners of a rectangle may miss the directions of the pixels."""


def area_of(
    settings: RestoreState, viewer: ViewerModel, layer: Layer, image: Image
) -> Callable[[], Area]:
    """Return a function that computes the area of the target in `layer`, which shows `image`.

    The viewer is read at once. The function may have to read and write a large mask, and is
    called on another thread where the target is painted. Both raise `RestoreError`.
    """
    target = settings.target
    if target is TargetChoice.PAINTED:
        return painted_area(viewer, settings.strength_layer, layer, image)
    if target is TargetChoice.DRAWN:
        area = _drawn_area(viewer, layer, image, settings.options.target.feather)
    elif target is TargetChoice.GRADIENT:
        area = _gradient_area(viewer, layer, image)
    else:
        area = Area((_plain_region(target, viewer, layer, image, settings.crop),))
    return lambda: area


def _plain_region(
    target: TargetChoice, viewer: ViewerModel, layer: Layer, image: Image, crop: bool
) -> Region:
    """Return all of the image or what is in view of it."""
    whole = Region(0, 0, image.height, image.width)
    shown = (crop and api.common_region(image)) or whole
    if target is TargetChoice.WHOLE:
        return shown
    found = visible_region(viewer, layer, whole.shape).intersect(shown)
    if found.is_empty:
        raise BadRegion(
            "In view is only what some frame does not show.",
            "Pan to the middle of the image, or switch cropping off.",
        )
    return found


def _drawn_area(viewer: ViewerModel, layer: Layer, image: Image, feather: int) -> Area:
    """Return one upright box without a fade as it is; everything else as a mask of polygons."""
    shapes = areas_layer(viewer)
    drawn = [] if shapes is None else outlines(viewer, shapes, layer)
    if not drawn and any(EXCLUDED in other.metadata for other in viewer.layers):
        raise BadRegion(
            "There is no area yet: what is drawn is excluded.",
            "Press Rectangle or Polygon and draw one to restore, or choose another area.",
        )
    if not drawn:
        raise BadRegion(
            "There is no area yet.", "Press Rectangle or Polygon and draw one over the image."
        )
    size = (image.height, image.width)
    boxes = [bounding_region(points, size) for points in drawn]
    inside = [(points, box) for points, box in zip(drawn, boxes, strict=True) if box is not None]
    if not inside:
        subject = "The area lies" if len(drawn) == 1 else "All areas lie"
        raise BadRegion(f"{subject} outside {layer.name}.", "Draw one over the image.")
    targets = tuple(box for _, box in inside)
    if len(inside) == 1 and feather == 0 and is_upright_box(inside[0][0]):
        return Area(targets)
    mask = api.mask_of_polygons(image, [[corners_in_pixels(points)] for points, _ in inside])
    return Area(targets, str(mask), pixels=round(sum(_surface(points) for points, _ in inside)))


def _gradient_area(viewer: ViewerModel, layer: Layer, image: Image) -> Area:
    shapes = gradient_layer(viewer)
    if shapes is None or not shapes.data:
        raise BadRegion(
            "There is no gradient yet.",
            "Press Gradient and drag from where nothing shall change to where all shall.",
        )
    ends = _in_pixels(viewer, shapes, layer, np.asarray(shapes.data[-1], float)[[0, -1]])
    (x0, y0), (x1, y1) = corners_in_pixels(ends)
    if not np.isfinite(ends).all() or np.hypot(x1 - x0, y1 - y0) < 1:
        raise BadRegion("The gradient has no length.", "Drag from one place to another.")
    mask = api.mask_of_line(image, (x0, y0), (x1, y1))
    return Area((Region(0, 0, image.height, image.width),), str(mask), soft=True)


def areas_layer(viewer: ViewerModel) -> Shapes | None:
    """Return the Shapes layer of areas: the active one, else the topmost; none with another purpose."""
    return _shapes(viewer, lambda layer: not {GRADIENT, TARGETS_OF, EXCLUDED} & set(layer.metadata))


def excluded_layer(viewer: ViewerModel) -> Shapes | None:
    """Return the Shapes layer of areas that are excluded."""
    return _shapes(viewer, lambda layer: EXCLUDED in layer.metadata)


def mark_excluded(layer: Layer, excluded: bool) -> None:
    """Mark a layer of areas that are excluded, or no longer; one of ours in name and colour, too."""
    if excluded:
        layer.metadata.setdefault(EXCLUDED, layer.name)
        if layer.name.startswith((AREAS, PAINTED)):
            layer.name = "Excluded"
    else:
        before = layer.metadata.pop(EXCLUDED, layer.name)
        if layer.name.startswith("Excluded"):
            layer.name = before
    colour = OF_EXCLUDED if excluded else OF_AREAS
    if PAINT in layer.metadata:
        layer.colormap = _paint(colour)
    elif THIN in layer.metadata:
        layer.current_edge_color = layer.edge_color = colour


def gradient_layer(viewer: ViewerModel) -> Shapes | None:
    """Return the layer of the gradient's line."""
    return _shapes(viewer, lambda layer: GRADIENT in layer.metadata)


def _shapes(viewer: ViewerModel, fits: Callable[[Layer], bool]) -> Shapes | None:
    active = viewer.layers.selection.active
    found = [x for x in reversed(viewer.layers) if isinstance(x, Shapes) and fits(x)]
    return active if active in found else next(iter(found), None)


def outlines(viewer: ViewerModel, shapes: Shapes, layer: Layer) -> list[Points]:
    """Return the corners (row, column), in data of `layer`, of each area that counts."""
    # These are the selected shapes while the user selects, else all; lines are none.
    chosen: Any = shapes.selected_data if shapes.mode in SELECTING else ()
    numbers = sorted(chosen) or range(len(shapes.data))
    kinds = shapes.shape_type
    drawn = [
        _outline(np.asarray(shapes.data[number], float), kinds[number])
        for number in numbers
        if kinds[number] in CLOSED and len(shapes.data[number]) >= 3
    ]
    return [_in_pixels(viewer, shapes, layer, vertices) for vertices in drawn]


def _outline(vertices: Points, kind: str) -> Points:
    """Return the corners of a shape; an ellipse, given by the corners around it, becomes a polygon."""
    if kind != "ellipse":
        return vertices
    centre = vertices.mean(axis=0)
    across, down = (vertices[1] - vertices[0]) / 2, (vertices[3] - vertices[0]) / 2
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)[:, None]
    ring: Points = centre + np.cos(angles) * across + np.sin(angles) * down
    return ring


def _in_pixels(viewer: ViewerModel, shapes: Shapes, layer: Layer, vertices: Points) -> Points:
    world = [np.array(shapes.data_to_world(vertex)[-2:]) for vertex in vertices]
    return in_data(viewer, layer, world)


def is_upright_box(points: Points) -> bool:
    """Return whether four corners form a rectangle along the pixels."""
    if len(points) != 4:
        return False
    sides = np.abs(np.roll(points, -1, axis=0) - points) > STRAIGHT
    return bool((sides.sum(axis=1) == 1).all() and (sides != np.roll(sides, 1, axis=0)).all())


def corners_in_pixels(points: Points) -> list[tuple[float, float]]:
    """Return (x, y) from the corner of the first pixel, whose middle is (0, 0) in napari."""
    return [(float(column) + 0.5, float(row) + 0.5) for row, column in points]


def _surface(points: Points) -> float:
    """Return the square pixels inside a polygon."""
    row, column = points.T
    return abs(float(row @ np.roll(column, 1) - column @ np.roll(row, 1))) / 2
