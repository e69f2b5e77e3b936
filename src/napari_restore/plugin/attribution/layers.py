"""The layers of one attribution: its map in one of three views, and that of its overview."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from napari.layers import Image as ImageLayer, Layer

from napari_restore import Region
from napari_restore.plugin.areas.areas import TARGETS_OF
from napari_restore.plugin.layers.display import colour_limit, largest_of_blocks, signed_colours
from napari_restore.plugin.layers.layer_order import take_away
from napari_restore.plugin.layers.placing import Matrix, over, plane_of, resampled, shifted

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.explain import Attribution, Kind, OverviewShares, PartialAttribution

Floats = npt.NDArray[np.float32]
LARGEST = 1 << 22
"""Pixels of a map up to which one array is shown; of a larger one a second, reduced level."""
REDUCED = 2048
"""Longer side of that level at most."""
VIEWS = {"map": "Map", "magnitude": "Magnitude", "area": "Contribution area"}
"""Of a map, as the tab offers them; see `MapArrays.views`."""


class MapArrays(NamedTuple):
    """The arrays that the layers of a map show; made on another thread."""

    region: Region
    levels: Sequence[Any]
    """(h, w) maps, the sum over bands; the second one, if any, in memory."""
    most: float
    """Where colours end, of map and overview alike."""
    window: Region
    area: npt.NDArray[np.float64] | None
    """(h, w) over `window`; None of a layer, whose cells have no place as fine as pixels."""
    overview: OverviewShares | None
    kind: Kind
    frames: tuple[FrameMap, ...] = ()
    """Of a bracket whose map is one array."""

    @property
    def views(self) -> list[str]:
        """Names of the `VIEWS` that say something of such a map."""
        there = {"magnitude": self.kind.is_signed, "area": self.area is not None}
        return [view for view in VIEWS if there.get(view, True)]


class FrameMap(NamedTuple):
    """The map of one frame of a bracket."""

    name: str
    values: Floats
    """(h, w) sum over its bands, over the map's region."""


def picture_of(attribution: Attribution) -> MapArrays:
    """Read a finished map; not for the GUI thread."""
    region = attribution.region
    is_of_layer = attribution.record["attribution"].get("layer") is not None
    area = None if is_of_layer else attribution.contribution_area()
    beside = attribution.window, area, attribution.overview, attribution.kind
    most = colour_limit(attribution.limit)
    if region.pixels <= LARGEST:
        values = attribution.read(region).sum(axis=2)
        return MapArrays(region, [values], most, *beside, _frames(attribution))
    step = -(-max(region.shape) // REDUCED)
    # From strips, so that the map is never whole in memory. The largest of each block by its
    # magnitude: in a mean, single pixels would vanish.
    parts = []
    for top in range(region.y0, region.y1, step * max(1, 512 // step)):
        stop = min(region.y1, top + step * max(1, 512 // step))
        strip = attribution.read(Region(top, region.x0, stop, region.x1)).sum(axis=2)
        parts.append(largest_of_blocks(strip, step))
    levels = [attribution.map.sum(axis=2), np.concatenate(parts)]
    return MapArrays(region, levels, most, *beside)


def _frames(attribution: Attribution) -> tuple[FrameMap, ...]:
    """Return the maps of the frames of a bracket, dark to bright; none for an image."""
    if attribution.frames == 1:
        return ()
    maps = attribution.by_frame(attribution.region)
    return tuple(
        FrameMap(f"frame {frame.name}", np.ascontiguousarray(maps[..., number]))
        for number, frame in enumerate(attribution.image.frames)
    )


def _most(values: npt.NDArray[np.floating]) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


class AttributionLayers:
    """One map in the viewer, as one of `VIEWS`, until it is removed; and its overview, if any."""

    def __init__(self, viewer: ViewerModel, source: ImageLayer, name: str, scale: int) -> None:
        self._viewer, self._source, self._scale = viewer, source, scale
        self.name = name
        """What the names of the layers begin with."""
        self.map: ImageLayer | None = None
        """The map of the pixels, in the view of `show`."""
        self.overview: ImageLayer | None = None
        """Shares of the whole image's overview, by blocks."""
        self.frames: list[ImageLayer] = []
        """Of a bracket the map of each frame."""
        self._picture: MapArrays | None = None
        self._record: dict[str, Any] = {}
        self._view, self._exponent = "map", 0.5

    def __contains__(self, layer: object) -> bool:
        return any(layer is own for own in self.all)

    @property
    def all(self) -> list[Layer]:
        """Those that are there, the lowest first."""
        below = [layer for layer in (self.overview, *self.frames) if layer is not None]
        return [*below, self.map] if self.map is not None else below

    def partial(self, part: PartialAttribution) -> None:
        """Show the map as far as it is."""
        most = colour_limit(_most(part.values))
        if self.map is None:
            self.map = self._add("coming", [part.values], part.region, (-most, most))
        else:
            self.map.data = part.values
            self.map.contrast_limits_range = (-most, most)
            self.map.contrast_limits = (-most, most)

    def finish(
        self, picture: MapArrays, record: dict[str, Any], view: str, exponent: float
    ) -> None:
        """Show all of it, in the place of its parts."""
        self.remove()
        self._picture, self._record = picture, record
        self._view, self._exponent = view if view in picture.views else "map", exponent
        if picture.overview is not None:
            self.overview = self._add_overview(picture.overview, picture.most)
            self.overview.metadata["napari_restore_record"] = record
        for frame in picture.frames:
            limits = (-picture.most, picture.most)
            self.frames.append(self._add(frame.name, [frame.values], picture.region, limits))
            self.frames[-1].metadata["napari_restore_record"] = record
            # One at a time is seen: first their sum.
            self.frames[-1].visible = False
        self.map = self._made(picture)
        self._raise_box()
        self._viewer.layers.selection.active = self.map

    def show(self, view: str, exponent: float) -> None:
        """Show the map as one of `VIEWS`; a magnitude to the power of `exponent`."""
        before, self._exponent = self.map, exponent
        if before is None or self._picture is None:
            return
        if view == self._view or view not in self._picture.views:
            before.gamma = exponent if view == "magnitude" else 1.0
            return
        self._view = view
        # One replaces the other: its place in the list, and whether it is seen, stay.
        at, visible = self._viewer.layers.index(before), before.visible
        self.map = self._made(self._picture)
        self.map.visible = visible
        self._viewer.layers.move(self._viewer.layers.index(self.map), at)
        self._viewer.layers.remove(before)
        self._viewer.layers.selection.active = self.map

    @property
    def views(self) -> list[str]:
        """The views that the map has."""
        return [] if self._picture is None else self._picture.views

    @property
    def visible(self) -> bool:
        """Whether the map is seen; set for the overview as well."""
        return self.map is not None and bool(self.map.visible)

    @visible.setter
    def visible(self, visible: bool) -> None:
        for layer in self.all:
            # Frames are shown one by one, by the user.
            layer.visible = visible and layer not in self.frames

    def remove(self) -> None:
        """Take all away; the user may have removed some."""
        own, self.map, self.overview, self.frames = self.all, None, None, []
        take_away(self._viewer, *own)

    def _made(self, picture: MapArrays) -> ImageLayer:
        """Add a layer of the chosen view."""
        title, most = VIEWS[self._view].lower(), picture.most
        if self._view == "area":
            layer = self._add(title, [picture.area], picture.window, (0, 1))
            layer.opacity = 0.6
        elif self._view == "magnitude":
            sizes = [np.abs(level) for level in picture.levels]
            layer = self._add(title, sizes, picture.region, (0, most))
            layer.gamma = self._exponent
        else:
            low = -most if picture.kind.is_signed else 0
            layer = self._add(title, picture.levels, picture.region, (low, most))
        layer.metadata["napari_restore_record"] = self._record
        layer.colorbar.visible = True
        return layer

    def _raise_box(self) -> None:
        """Show the target above the map."""
        layers = self._viewer.layers
        for layer in list(layers):
            if layer.metadata.get(TARGETS_OF) == self._source.unique_id:
                layers.move(layers.index(layer), len(layers))

    @property
    def _plane(self) -> Matrix:
        """The matrix of the level of the source that was attributed."""
        return resampled(plane_of(self._source), Fraction(1, self._scale))

    def _add(
        self, title: str, levels: Sequence[Any], region: Region, limits: tuple[float, float]
    ) -> ImageLayer:
        matrix = shifted(self._plane, *region[:2])
        return self._shown(title, levels, limits, matrix)

    def _add_overview(self, overview: OverviewShares, most: float) -> ImageLayer:
        matrix = shifted(self._plane, *overview.corner)
        matrix = resampled(matrix, Fraction(1, overview.step))
        return self._shown("overview", [overview.density()], (-most, most), matrix)

    def _shown(
        self,
        title: str,
        levels: Sequence[Any],
        limits: tuple[float, float],
        matrix: npt.NDArray[np.float64],
    ) -> ImageLayer:

        about = "" if self._picture is None else self._picture.kind.about
        layer = ImageLayer(
            levels if len(levels) > 1 else levels[0],
            name=f"{self.name} · {title}",
            multiscale=len(levels) > 1,
            cache=False,
            colormap=signed_colours() if limits[0] < 0 else "viridis",
            contrast_limits=limits,
            blending="translucent",
            **over(self._source, matrix, about=about),
        )
        self._viewer.layers.append(layer)
        return layer
