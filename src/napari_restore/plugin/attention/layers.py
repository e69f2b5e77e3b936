"""The layers that show a head over the image: its weights, its window, its strongest cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image as ImageLayer, Layer, Vectors

from napari_restore import Region
from napari_restore.plugin.areas.areas import THIN
from napari_restore.plugin.areas.drawing_controller import EDGE
from napari_restore.plugin.layers.display import (
    BAR,
    colour_limit,
    head_colours,
    signed_colours,
    weight_limits,
    with_blanks,
)
from napari_restore.plugin.layers.layer_order import keeping_active, take_away
from napari_restore.plugin.layers.placing import (
    Matrix,
    in_layer,
    over,
    plane_of,
    resampled,
    scale_and_affine,
    shifted,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.explain import Kind
    from napari_restore.explain.attention.ablation import HeadEffect
    from napari_restore.explain.attention.head_maps import HeadMap, HeadMaps, QueryMaps


CELLS = "Attention · cells"
LINES = 32
"""Strongest cells that lines are drawn to, where they are scattered."""
SCATTERED = ("sparse", "full", "cached")


def add_outline(viewer: ViewerModel, source: ImageLayer) -> Vectors:
    """Add a layer of lines over `source`, still empty, which stay thin as `add_outlines` says."""
    # Not Shapes, which take a tenth of a second for 32 lines.
    return viewer.add_vectors(
        np.zeros((0, 2, 2)),
        name=CELLS,
        vector_style="line",
        edge_color="white",
        edge_width=in_layer(EDGE, viewer, plane_of(source)),
        **over(source, plane_of(source), **{THIN: True}),
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


@contextmanager
def in_one_go(layer: Layer, names: Sequence[str] = (), *, rests: bool) -> Iterator[None]:
    """Let attributes of a layer be set within ``with``, then draw it once and emit events by name."""
    # napari draws a layer, makes its thumbnail and asks all layers for their extent at every
    # assignment. With `rests` False neither thumbnail nor extent follow: the layer is on its way.
    with layer.events.blocker_all():
        yield
    # Drawing the data also places them. With asynchronous slicing this asks for a new slice.
    layer.refresh(extent=rests, thumbnail=rests)
    for name in names:
        getattr(layer.events, name)()


NAME = "Attention"
COLOURS = ((0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
"""Of Okabe and Ito, for several heads at once: distinguishable with any kind of colour vision."""
Floats = npt.NDArray[np.float32]


class AttentionLayers:
    """One head, or several in a colour each, over the image that was asked about."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.map: ImageLayer | None = None
        self._is_signed = False
        """Whether the colours of the map diverge."""
        self.outline: Vectors | None = None

    def make(self, source: ImageLayer) -> None:
        """Add both, still empty: adding them takes longer than a click should wait."""
        with keeping_active(self._viewer):
            if self.map is None or self.map not in self._viewer.layers:
                nothing = np.full((1, 1), -1, np.float32)
                self.map = self._layer(source, (Region(0, 0, 1, 1), 1), nothing, (0.0, 1.0), None)
                self.map.name, self._is_signed = NAME, False
                self._viewer.layers.append(self.map)
            if self.outline is None or self.outline not in self._viewer.layers:
                self.outline = add_outline(self._viewer, source)

    def show(
        self,
        source: ImageLayer,
        maps: HeadMaps,
        heads: Sequence[str],
        *,
        spread: bool,
        rests: bool = True,
        beside: HeadMaps | None = None,
    ) -> None:
        """Show the chosen heads of one query, in place of those before.

        One head is on one scale with the same one of `beside`, the maps of another query.
        `rests` False while a query is dragged: the outline stays as it is, and so do thumbnails.
        """
        self.make(source)
        found = [maps.map(head) for head in heads]
        known = [each.map(heads[0]).values.ravel() for each in (maps, beside) if each is not None]
        kind, together = maps.kind, np.concatenate(known)
        limits = weight_limits(together, spread=spread, is_signed=kind.is_signed)
        self._show_map(source, found, None if len(heads) > 1 else limits, kind, rests=rests)
        if rests:
            assert self.outline is not None
            show_outline(self.outline, maps, heads[0])

    def pin(self, source: ImageLayer, maps: HeadMaps, head: str, query: QueryMaps) -> ImageLayer:
        """Keep a head as a layer of its own, with its numbers."""
        found = maps.map(head)
        kind = maps.kind
        limits = weight_limits(found.values, is_signed=kind.is_signed)
        filled = with_blanks(found.values, is_signed=kind.is_signed)
        layer = self._layer(source, found[1:], filled, limits, kind)
        layer.name = f"Head {head} · {maps.site.title} · {query.query.label}"
        layer.metadata["napari_restore_attention"] = {
            **maps.to_dict(),
            "head": head,
            "query": query.query.to_dict(),
            "measures": query.measures[maps.site.name],
        }
        self._viewer.layers.append(layer)
        return layer

    def add_effect(self, source: ImageLayer, effect: HeadEffect, title: str) -> ImageLayer:
        """Add what the result lacks without a head: mean over its bands, without minus with."""
        values = effect.difference.mean(axis=2)
        most = colour_limit(float(np.abs(values).max()))
        matrix = shifted(plane_of(source), *effect.region[:2])
        layer = ImageLayer(
            values,
            name=f"Without head {effect.head} · {title}",
            colormap=signed_colours(),
            contrast_limits=(-most, most),
            interpolation2d="nearest",
            cache=False,
            **over(
                source, matrix, about=effect.kind.about, napari_restore_attention=effect.to_dict()
            ),
        )
        self._viewer.layers.append(layer)
        return layer

    def remove(self) -> None:
        """Take both away; the user may have removed them."""
        own, self.map, self.outline = (self.map, self.outline), None, None
        take_away(self._viewer, *own)

    # -- the map -----------------------------------------------------------------

    def _show_map(
        self,
        source: ImageLayer,
        found: Sequence[HeadMap],
        limits: tuple[float, float] | None,
        kind: Kind,
        *,
        rests: bool,
    ) -> None:
        layer, mixes = self.map, len(found) > 1
        assert layer is not None
        first = found[0].values
        values = _mixed(found) if mixes else with_blanks(first, is_signed=kind.is_signed)
        if layer.rgb != mixes or (not mixes and self._is_signed != kind.is_signed):
            # napari knows no layer that changes from one to the other; other colours are another kind.
            self.map = self._layer(source, found[0][1:], values, limits, kind)
            self.map.name, self._is_signed = NAME, kind.is_signed
            with keeping_active(self._viewer):
                at = self._viewer.layers.index(layer)
                self._viewer.layers.remove(layer)
                # In its place: what marks the query stays above it.
                self._viewer.layers.insert(at, self.map)
            return
        # The same layer: what the user has set of it stays.
        place = scale_and_affine(_place_of(source, *found[0][1:]))
        # Those that napari draws by, and for its widgets and boxes around layers at last.
        names = [] if mixes else ["contrast_limits"]
        names += ["affine", *([] if mixes else ["contrast_limits_range"])] if rests else []
        layer.metadata["about"] = kind.about
        with in_one_go(layer, names, rests=rests):
            layer.data = values
            if limits is not None:
                layer.contrast_limits_range = limits
                layer.contrast_limits = limits
            if not np.allclose(layer.scale, place["scale"]):
                layer.scale = place["scale"]
            layer.affine = place["affine"]
        if not layer.colorbar.visible and BAR not in layer.metadata:
            # Once: a user may hide it.
            layer.colorbar.visible = layer.metadata[BAR] = True

    def _layer(
        self,
        source: ImageLayer,
        place: tuple[Region, int],
        values: Any,
        limits: tuple[float, float] | None,
        kind: Kind | None,
    ) -> ImageLayer:

        shown: dict[str, Any] = {"rgb": True}
        if limits is not None:
            diverges = kind is not None and kind.is_signed
            colours = signed_colours() if diverges else head_colours()
            shown = {"colormap": colours, "contrast_limits": limits}
        return ImageLayer(
            values,
            interpolation2d="nearest",
            blending="translucent",
            cache=False,
            **shown,
            **over(source, _place_of(source, *place), about="" if kind is None else kind.about),
        )


def _place_of(source: ImageLayer, region: Region, stride: int) -> Matrix:
    """Return the place of a map of cells: each covers `stride` pixels, the first from −½."""
    matrix = shifted(plane_of(source), region.y0 * stride, region.x0 * stride)
    return resampled(matrix, Fraction(1, stride))


def _mixed(found: Sequence[HeadMap]) -> Floats:
    """Return (h, w, 4): each head in a colour of its own, as strong as its weight."""
    shape = found[0].values.shape
    colour, total = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    for number, each in enumerate(found):
        values = np.clip(np.nan_to_num(each.values), 0, None)
        share = values / (values.max() or 1.0)
        colour += share[..., None] * np.array(COLOURS[number % len(COLOURS)], np.float32)
        total += share
    mixed = np.divide(colour, total[..., None], out=colour, where=total[..., None] > 0)
    alpha = np.clip(total, 0, 1)[..., None]
    return np.concatenate([np.clip(mixed, 0, 1), alpha], axis=2).astype(np.float32)
