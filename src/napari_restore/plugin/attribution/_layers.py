"""The layers of one attribution: its map, magnitude, contribution area and box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.plugin.areas._areas import ASKED
from napari_restore.plugin.layers._placing import (
    enlarged,
    plane_of,
    scale_and_affine,
    shifted,
    widen,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer
    from napari.utils import Colormap

    from napari_restore.explain import Attribution, Glimpse, Overview

Floats = npt.NDArray[np.float32]
LARGEST = 1 << 22
"""Pixels of a map up to which one array is shown; of a larger one a second, reduced level."""
REDUCED = 2048
"""Longer side of that level at most."""
ORANGE, PURPLE = (0.702, 0.345, 0.024), (0.329, 0.153, 0.533)
"""Ends of ColorBrewer's PuOr, as the figures have it: told apart by people with any kind of sight."""
NOTE = "where the model looked, not why"


class Picture(NamedTuple):
    """What the layers of a map show; made on another thread."""

    region: Region
    levels: Sequence[Any]
    """(h, w) signed maps, the sum over bands; the second one, if any, in memory."""
    most: float
    """Largest magnitude."""
    window: Region
    area: npt.NDArray[np.float64]
    """(h, w) over `window`."""
    overview: Overview | None


def picture_of(found: Attribution) -> Picture:
    """Read a finished map; not for the GUI thread."""
    region = found.region
    area = found.contribution_area()
    if region.pixels <= LARGEST:
        values = found.read(region).sum(axis=2)
        return Picture(region, [values], _most(values), found.window, area, found.overview)
    step = -(-max(region.shape) // REDUCED)
    # From strips, so that the map is never whole in memory. The largest of each block by its
    # magnitude: in a mean, single pixels would vanish.
    parts, most = [], 0.0
    for top in range(region.y0, region.y1, step * max(1, 512 // step)):
        stop = min(region.y1, top + step * max(1, 512 // step))
        strip = found.read(Region(top, region.x0, stop, region.x1)).sum(axis=2)
        most = max(most, _most(strip))
        parts.append(_largest(strip, step))
    levels = [found.map.sum(axis=2), np.concatenate(parts)]
    return Picture(region, levels, most, found.window, area, found.overview)


def _most(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0)) or 1.0


def _largest(values: Floats, step: int) -> Floats:
    """(⌈h/step⌉, ⌈w/step⌉): of each block the value whose magnitude is largest."""
    height, width = (-(-n // step) for n in values.shape)
    padded = np.zeros((height * step, width * step), np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, -1)
    at = np.abs(blocks).argmax(axis=2)[..., None]
    found: Floats = np.take_along_axis(blocks, at, axis=2)[..., 0]
    return found


def signed_colours() -> Colormap:
    """Orange below zero, purple above, clear at zero: what lies below is seen where nothing is."""
    from napari.utils import Colormap

    strength = np.linspace(-1, 1, 65)[:, None]
    ends = np.where(strength < 0, ORANGE, PURPLE)
    # Soon opaque: weak shares are told by paler colours, not by the picture shining through.
    pale = 1 - np.clip(np.abs(strength) * 1.5 + 0.15, 0, 1)
    colours = ends + (1 - ends) * pale
    alpha = np.clip(np.abs(strength) * 4, 0, 1)
    return Colormap(np.hstack([colours, alpha]), name="attribution")


class AttributionLayers:
    """The layers of one map, in the viewer until the first of them is removed."""

    def __init__(self, viewer: ViewerModel, source: ImageLayer, name: str, scale: int) -> None:
        self._viewer, self._source, self._scale = viewer, source, scale
        self.name = name
        self.signed: ImageLayer | None = None
        self.magnitude: ImageLayer | None = None
        self.area: ImageLayer | None = None
        self.overview: ImageLayer | None = None
        """Shares of the whole image's overview, by blocks."""
        self.outline: Layer | None = None

    def __contains__(self, layer: object) -> bool:
        return any(layer is own for own in self.all)

    @property
    def all(self) -> list[Layer]:
        """Those that are there, the lowest first."""
        own = (self.magnitude, self.area, self.overview, self.signed, self.outline)
        return [layer for layer in own if layer is not None]

    def glimpse(self, seen: Glimpse) -> None:
        """Show the map as far as it is."""
        most = _most(seen.values)
        if self.signed is None:
            self.signed = self._add("Coming", [seen.values], seen.region, (-most, most))
        else:
            self.signed.data = seen.values
            self.signed.contrast_limits_range = (-most, most)
            self.signed.contrast_limits = (-most, most)

    def finish(self, picture: Picture, record: dict[str, Any], exponent: float) -> None:
        """Show all of it, in the place of glimpses."""
        self.remove()
        levels, most = picture.levels, picture.most
        sizes = [np.abs(level) for level in levels]
        self.magnitude = self._add("Magnitude", sizes, picture.region, (0, most))
        self.magnitude.gamma = exponent
        self.area = self._add("Contribution area", [picture.area], picture.window, (0, 1))
        self.area.opacity = 0.6
        if picture.overview is not None:
            self.overview = self._add_overview(picture.overview)
        self.signed = self._add("Attribution", levels, picture.region, (-most, most))
        self.outline = self._add_outline(record["attribution"])
        for layer in self.all:
            layer.metadata["napari_restore_record"] = record
        self.magnitude.visible = self.area.visible = False
        self._viewer.layers.selection.active = self.signed

    def remove(self) -> None:
        """Take all away; the user may have removed some."""
        for layer in self.all:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.signed = self.magnitude = self.area = self.overview = self.outline = None

    def show_exponent(self, exponent: float) -> None:
        """Show the magnitude to the power of `exponent`."""
        if self.magnitude is not None:
            self.magnitude.gamma = exponent

    def _add(
        self, title: str, levels: Sequence[Any], region: Region, limits: tuple[float, float]
    ) -> ImageLayer:
        matrix = shifted(enlarged(plane_of(self._source), self._scale), *region[:2])
        return self._shown(title, levels, limits, matrix)

    def _add_overview(self, overview: Overview) -> ImageLayer:
        blocks, side = overview.blocks()
        most = float(np.abs(blocks).max()) or 1.0
        matrix = shifted(enlarged(plane_of(self._source), self._scale), *overview.corner)
        # A block's middle, not that of its first pixel.
        matrix = enlarged(shifted(matrix, (side - 1) / 2, (side - 1) / 2), side)
        return self._shown("Overview", [blocks], (-most, most), matrix)

    def _shown(
        self,
        title: str,
        levels: Sequence[Any],
        limits: tuple[float, float],
        matrix: npt.NDArray[np.float64],
    ) -> ImageLayer:
        from napari.layers import Image as ImageLayer

        layer = ImageLayer(
            levels if len(levels) > 1 else levels[0],
            name=f"{title} {self.name}",
            multiscale=len(levels) > 1,
            cache=False,
            colormap=signed_colours() if limits[0] < 0 else "viridis",
            contrast_limits=limits,
            blending="translucent",
            **self._placed(matrix),
        )
        self._viewer.layers.append(layer)
        return layer

    def _add_outline(self, told: dict[str, Any]) -> Layer:
        from napari.layers import Shapes

        y0, x0, y1, x1 = told["box"]
        corners = told.get("polygon") or [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]
        layer = Shapes(
            [np.array(corners, float) - 0.5],
            shape_type="polygon",
            name=f"Box {self.name}",
            face_color="transparent",
            edge_color="white",
            edge_width=max(1.0, max(y1 - y0, x1 - x0) / 64),
            **self._placed(enlarged(plane_of(self._source), self._scale)),
        )
        layer.metadata[ASKED] = None  # Not an area to restore.
        self._viewer.layers.append(layer)
        return layer

    def _placed(self, matrix: npt.NDArray[np.float64]) -> dict[str, Any]:
        return {
            **scale_and_affine(widen(matrix, 2)),
            "units": self._source.units[-2:],
            "axis_labels": self._source.axis_labels[-2:],
            "metadata": {"napari_restore_source": self._source.unique_id, "about": NOTE},
        }
