"""Layers that are compared: shown alone, side by side, with one contrast; and their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psygnal

from napari_restore import Region
from napari_restore.plugin.layers.display import display_properties

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore.plugin.state.variant import Variant


SPACING = 4
"""Screen pixels between the two."""
OURS = {"stride": 1, "shape": (1, -1), "spacing": SPACING, "enabled": True}


class Compared(NamedTuple):
    """What a result is compared with in place of its source."""

    layer: ImageLayer
    corner: tuple[float, float] = (0, 0)
    """Level-0 row and column of the source on which the layer begins."""
    ratio: float = 1
    """Its pixels along one of the source."""

    @classmethod
    def of(cls, variant: Variant) -> Compared:
        """Return a result."""
        box, ratio = variant.shown.box, float(variant.shown.result.image.resampling)
        return cls(variant.layer, (box.y0 / ratio, box.x0 / ratio), ratio)


class ShownLayers:
    """Shows layers and hides the other results of their source, until `restore`."""

    def __init__(self, viewer: ViewerModel, *layers: Layer, only: bool = False) -> None:
        """Show `layers`; `only` hides everything else."""
        self.viewer = viewer
        self._before: list[tuple[Layer, bool]] = []
        sources = {layer.unique_id for layer in layers}
        for layer in viewer.layers:
            if layer in layers:
                self._set(layer, True)
            elif only or layer.metadata.get("napari_restore_source") in sources:
                self._set(layer, False)

    def restore(self) -> None:
        for layer, visible in self._before:
            if layer in self.viewer.layers:
                layer.visible = visible
        self._before.clear()

    def _set(self, layer: Layer, visible: bool) -> None:
        if bool(layer.visible) != visible:
            self._before.append((layer, bool(layer.visible)))
            layer.visible = visible


class SideBySide:
    """Shows two layers in napari's grid until `end`, which brings the former grid back."""

    # All other layers are hidden meanwhile. napari orders the grid as its list: the lower layer is
    # on the left. Pan and zoom move both. What filled the window fills its halves.

    ended = psygnal.Signal()

    def __init__(self, viewer: ViewerModel, left: Layer, right: Layer) -> None:
        self.viewer = viewer
        self._layers = (left, right)
        self._over = False
        grid = viewer.canvas.grid
        self._before = {name: getattr(grid, name) for name in OURS}
        self._view = self._fitted = self._camera
        corners = [each.extent.world[:, -2:] for each in self._layers]
        size = viewer.scene.camera.zoom * np.ptp(np.concatenate(corners), axis=0)
        # Placed by their order in the list; a negative stride turns it round.
        turned = viewer.layers.index(left) > viewer.layers.index(right)
        for name, value in OURS.items():
            setattr(grid, name, -1 if name == "stride" and turned else value)
        # Afterwards: with the grid the photos come back that were hidden for another one.
        self._shown = ShownLayers(viewer, left, right, only=True)
        if (size <= viewer.canvas.size).all():
            viewer.fit_to_view(layers=(left, right))
            self._fitted = self._camera
        viewer.layers.events.removed.connect(self._on_removed)
        grid.events.enabled.connect(self._on_enabled)

    @property
    def _camera(self) -> tuple[Any, float]:
        camera = self.viewer.scene.camera
        return camera.center, camera.zoom

    def end(self) -> None:
        """Show one view again, with the grid's settings and the layers as before."""
        if self._over:
            return
        self._over = True
        grid = self.viewer.canvas.grid
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        grid.events.enabled.disconnect(self._on_enabled)
        for name in reversed(OURS):
            setattr(grid, name, self._before[name])
        self._shown.restore()
        if self._camera == self._fitted:
            camera = self.viewer.scene.camera
            camera.center, camera.zoom = self._view
        self.ended.emit()

    def _on_enabled(self) -> None:
        """End when the user leaves the grid with napari's own button."""
        if not self.viewer.canvas.grid.enabled:
            self._before["enabled"] = False
            self.end()

    def _on_removed(self, event: Any) -> None:
        if any(event.value is layer for layer in self._layers):
            self.end()


class LinkedContrast:
    """Keeps contrast limits, gamma and colormap of sources and results the same."""

    def __init__(self) -> None:
        self._linked: list[tuple[ImageLayer, ImageLayer]] = []

    def follow(self, variants: Iterable[Variant]) -> None:
        """Link just these with their sources, and unlink the others."""
        from napari.experimental import link_layers, unlink_layers

        pairs = [(variant.source, variant.layer) for variant in variants]
        for pair in self._linked:
            if pair not in pairs:
                unlink_layers(pair, display_properties(pair[0]))
        for source, layer in pairs:
            if (source, layer) not in self._linked:
                for name in display_properties(source):
                    setattr(layer, name, getattr(source, name))
                link_layers((source, layer), display_properties(source))
        self._linked = pairs

    def close(self) -> None:
        self.follow(())


Places = npt.NDArray[np.intp]
"""Numbers of rows, or of columns."""
FAILURE = "Comparing failed"
"""How the message of an unexpected error begins."""


class LayerPixels:
    """What a layer shows, read without the layer: callable from any thread.

    `corner` is the level-0 row and column of the image on which the layer begins, `ratio` how many
    pixels it has along one of the image.
    """

    def __init__(
        self, layer: ImageLayer, corner: tuple[float, float] = (0, 0), ratio: float = 1
    ) -> None:
        self._levels = list(layer.data) if layer.multiscale else [layer.data]
        self._rgb = bool(layer.rgb)
        self._corner, self._ratio = corner, ratio

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._levels[0].dtype)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the finest level."""
        return self._size(self._levels[0])

    def has(self, step: int) -> bool:
        """Return whether there is a level of every `step`-th pixel."""
        return any(abs(max(self._factors(x)) / step - 1) < 0.01 for x in self._levels)

    def read(
        self, region: Region, step: int = 1, band: int | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read every `step`-th pixel of a level-0 region, from the level that has just these.

        Gives pixels (h, w, C), without alpha, and (h, w): which of them there are.
        Outside of the layer, where it is clear and where it is NaN there are none.
        `band` takes one of the bands that the layer steps through.
        """
        level = self._levels[0]
        for coarser in self._levels:
            if max(self._factors(coarser)) <= step * 1.01:
                level = coarser
        rows = self._indices(region.y0, region.y1, step, 0, level)
        columns = self._indices(region.x0, region.x1, step, 1, level)
        inside_y, inside_x = (
            (places >= 0) & (places < length)
            for places, length in zip((rows, columns), self._size(level), strict=True)
        )
        there = inside_y[:, None] & inside_x[None]
        bands = self._bands(band)
        if not there.any():
            return np.zeros((*there.shape, bands), self.dtype), there
        found = self._cut(level, rows[inside_y], columns[inside_x], band)
        pixels = np.zeros((*there.shape, found.shape[2]), found.dtype)
        pixels[there] = found.reshape(-1, found.shape[2])
        if self._rgb and pixels.shape[2] == 4:
            return pixels[..., :3], there & (pixels[..., 3] > 0)
        if pixels.dtype.kind == "f":
            there &= ~np.isnan(pixels).any(2)
        return pixels, there

    def _cut(self, level: Any, rows: Places, columns: Places, band: int | None) -> npt.NDArray[Any]:
        """Return (h, w, C) at the crossings of ascending `rows` and `columns`."""
        y, x = int(rows[0]), int(columns[0])
        window = (slice(y, int(rows[-1]) + 1), slice(x, int(columns[-1]) + 1))
        if self._rgb or level.ndim == 2:
            found = np.asarray(level[window])
        else:
            found = np.asarray(level[(slice(None) if band is None else band, *window)])
        if found.ndim == 2:
            found = found[..., None]
        elif not self._rgb:
            found = np.moveaxis(found, 0, 2)
        return found[np.ix_(rows - y, columns - x)]

    def _indices(self, start: int, stop: int, step: int, axis: int, level: Any) -> Places:
        """Return where in `level` the middles of steps from `start` lie."""
        middles = start + step * (np.arange(-(-(stop - start) // step)) + 0.5)
        places = (middles - self._corner[axis]) / self._factors(level)[axis]
        return np.floor(places).astype(np.intp)

    def _factors(self, level: Any) -> tuple[float, float]:
        """Return level-0 pixels per pixel of a level; a half with a whole last pixel is a half."""
        (h0, w0), (h, w) = self.size, self._size(level)
        return _factor(h0, h) / self._ratio, _factor(w0, w) / self._ratio

    def _size(self, level: Any) -> tuple[int, int]:
        height, width = level.shape[:2] if self._rgb else level.shape[-2:]
        return int(height), int(width)

    def _bands(self, band: int | None) -> int:
        if self._rgb:
            return 3
        first = self._levels[0]
        return 1 if band is not None or first.ndim == 2 else int(first.shape[0])


def _factor(whole: int, part: int) -> float:
    """Return how much smaller `part` is than `whole`, a power of two where that was rounded."""
    power = round(np.log2(whole / part))
    return float(2**power) if -(-whole >> power) == part or whole >> power == part else whole / part


def shown_band(viewer: ViewerModel, layer: ImageLayer) -> int | None:
    """Return the band that the sliders show of a layer (band, y, x); None for others."""
    if layer.ndim < 3:
        return None
    number = round(float(layer.world_to_data(viewer.dims.point)[0]))
    return int(np.clip(number, 0, len(layer.data[0] if layer.multiscale else layer.data) - 1))


def shown_step(layer: ImageLayer) -> int:
    """Return the level-0 pixels per pixel of the level of `layer` that is on the screen."""
    if not layer.multiscale:
        return 1
    factor = float(max(layer.downsample_factors[layer.data_level][-2:]))
    return int(2 ** max(0, round(np.log2(factor))))


def loaded_part(layer: ImageLayer) -> Region | None:
    """Return the level-0 pixels that napari has loaded of a layer with levels; whole chunks."""
    if not layer.multiscale:
        return None
    factors = layer.downsample_factors[layer.data_level][-2:]
    y0, x0 = np.round(layer.corner_pixels[0, -2:] * factors).astype(int)
    y1, x1 = np.ceil((layer.corner_pixels[1, -2:] + 1) * factors).astype(int)
    return Region(int(y0), int(x0), int(y1), int(x1))


def within(region: Region, step: int, pixels: int) -> int:
    """Return `step`, doubled until the region has at most so many `pixels`."""
    while (region.height // step) * (region.width // step) > pixels:
        step *= 2
    return step
