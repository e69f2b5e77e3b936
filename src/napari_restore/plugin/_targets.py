"""What a run shall restore: the visible region, a drawn rectangle, or everything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin._visible import bounding_region, in_data, visible_region

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes


class Target(Enum):
    """The choices, by the words the panel shows."""

    VISIBLE = "visible region"
    RECTANGLE = "drawn rectangle"
    WHOLE = "whole image"


@dataclass(frozen=True)
class Area:
    """What is restored, in level-0 pixels: boxes, and where drawn, a mask within them."""

    targets: tuple[Region, ...]
    mask: str | None = None
    """Path of a GeoJSON or raster mask, as `--mask` takes it."""

    @property
    def region(self) -> Region:
        """The smallest box holding all targets."""
        y0, x0, y1, x1 = zip(*self.targets, strict=True)
        return Region(min(y0), min(x0), max(y1), max(x1))


def area_of(target: Target, viewer: ViewerModel, layer: Layer, size: tuple[int, int]) -> Area:
    """What `target` means now; raises `BadRegion`."""
    if target is Target.WHOLE:
        return Area((Region(0, 0, *size),))
    if target is Target.VISIBLE:
        return Area((visible_region(viewer, layer, size),))
    return Area((_drawn_region(viewer, layer, size),))


def _drawn_region(viewer: ViewerModel, layer: Layer, size: tuple[int, int]) -> Region:
    shapes = chosen_shapes(viewer)
    if shapes is None or not shapes.data:
        raise BadRegion("There is no rectangle yet.", "Press Draw and drag one over the image.")
    numbers = sorted(shapes.selected_data) or [len(shapes.data) - 1]
    vertices = np.concatenate([np.asarray(shapes.data[n], float) for n in numbers])
    world = [np.array(shapes.data_to_world(vertex)[-2:]) for vertex in vertices]
    region = bounding_region(in_data(viewer, layer, world), size)
    if region is None:
        raise BadRegion(f"The rectangle lies outside {layer.name}.", "Draw one over the image.")
    return region


def chosen_shapes(viewer: ViewerModel) -> Shapes | None:
    """The Shapes layer meant: the active one, else the topmost."""
    from napari.layers import Shapes

    active = viewer.layers.selection.active
    if isinstance(active, Shapes):
        return active
    return next((layer for layer in reversed(viewer.layers) if isinstance(layer, Shapes)), None)
