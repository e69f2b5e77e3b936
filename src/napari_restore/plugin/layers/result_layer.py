"""The layer that shows a run's pixels while the run makes them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.api import read_again
from napari_restore.plugin.layers.display import (
    LIMITS,
    SHOWN_BANDS,
    Display,
    colours,
    draw_thumbnail_of,
    limits_of,
    on_screen,
    shown_alike,
    shown_bands,
    shown_dtype,
    without_alpha,
    without_light,
)
from napari_restore.plugin.layers.growth import Growth
from napari_restore.plugin.layers.placing import (
    Matrix,
    data_to_world,
    resampled,
    scale_and_affine,
    shifted,
)

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Result
    from napari_restore.questions import Adjustment

CELL = 128
"""The engine's tiles end on multiples of this many level-0 pixels."""
CHUNK = 512
SMALLEST = 512
"""Levels are added until the long side is at most this."""
SMALLEST_OF_LEVEL = 2048
"""The same for the result of a level: about what a screen shows needs no levels of its own."""
SLACK = 0.02
"""Share of the contrast's span by which a result may leave it before it is widened."""
SAMPLE_SIDE = 256
"""Contrast is judged on at most this many pixels squared."""
Limits = tuple[float, float]


class ResultLayer:
    """A layer over its source, filled tile by tile, clear where nothing is finished or restored.

    It covers the run's region only, and shows it as `adjust` says: on every level as
    `Result.read` gives it. Its finer levels are read from disk when they are drawn; the
    coarsest lies in memory and is filled in place, because napari 0.9 reads a layer's
    coarsest level once and keeps it. Where a level needs the source's levels, and those
    are still to be made, it is clear, or keeps the adjustment before, until a thread has made
    them. With `scale` the result is one of a level, whose pixels are so many of the
    source's along a side.
    """

    def __init__(self, result: Result, source: ImageLayer, name: str, *, scale: int = 1) -> None:
        from napari.layers import Image as ImageLayer

        self.result = result
        self._complete = False
        self._unfilled: list[Region] = []
        """Finished, but not yet in the coarsest level."""
        self._overview: Any = None
        """The source's coarsest level, while its levels are made for this."""
        self.region = result.region
        self._display = Display.of_layer(source)
        self.done = FinishedCells(result.region, (result.image.height, result.image.width))
        steps = _steps(self.region, SMALLEST if scale == 1 else SMALLEST_OF_LEVEL)
        box = self.region.align(1 << steps).intersect(
            Region(0, 0, result.image.height, result.image.width)
        )
        self.box = box
        """What the layer covers: the region grown until every level begins on a pixel."""
        # The source's own bands: the user may have named this image's roles otherwise.
        shown = source.metadata.get("napari_restore", result.image)
        bands = shown_bands(source, shown) if source.rgb else ()
        self._levels = [GrowingLevel(result, self.done, bands, box, k) for k in range(steps + 1)]
        self._ratio = result.image.resampling / scale
        self._place = self._place_over(source)
        coarsest = self._levels[-1]
        self._coarsest = np.full(coarsest.shape, coarsest.nothing, coarsest.dtype)
        levels = [*(level.lazy() for level in self._levels[:-1]), self._coarsest]
        arrays = [self._display.arrange(level) for level in levels]
        self.layer = ImageLayer(
            arrays if len(arrays) > 1 else arrays[0],
            name=name,
            multiscale=len(arrays) > 1,
            rgb=source.rgb,
            cache=False,
            **scale_and_affine(self._place),
            units=source.units,
            axis_labels=source.axis_labels,
            **shown_alike(source),
        )
        self.layer.metadata[SHOWN_BANDS] = source.metadata.get(SHOWN_BANDS)
        draw_thumbnail_of(self.layer)
        self._source = weakref.ref(source)
        for name in ("scale", "translate", "rotate", "shear", "affine"):
            source.events[name].connect(self._follow_source)
        self._limits: Limits | None = None
        """Contrast limits that `_widen` has set; others are the source's or the user's."""
        self._set_result(result)

    def _place_over(self, source: ImageLayer) -> Matrix:
        """Return the matrix of the layer where its pixels lie on those of `source`."""
        return shifted(resampled(data_to_world(source), self._ratio), self.box.y0, self.box.x0)

    def _follow_source(self) -> None:
        """Lie on the source where that is now, unless the user has moved the layer by itself."""
        source = self._source()
        if source is None or not np.allclose(data_to_world(self.layer), self._place):
            return
        self._place = self._place_over(source)
        placed = scale_and_affine(self._place)
        self.layer.scale, self.layer.affine = placed["scale"], placed["affine"]

    def take_layer(self, former: ResultLayer) -> bool:
        """Show this, which no viewer shows, in the layer of `former` and return whether it can be."""
        # A layer that is added and another that is removed take a viewer half a second.
        own, layer = self.layer, former.layer
        if (own.multiscale, own.rgb, own.ndim) != (layer.multiscale, layer.rgb, layer.ndim):
            return False
        layer.data = own.data
        if not np.array_equal(data_to_world(own), data_to_world(layer)):
            layer.scale, layer.affine = own.scale, own.affine
        if former._limits is not None and tuple(layer.contrast_limits) == former._limits:
            self._limits = former._limits
        layer.name = own.name
        layer.metadata[SHOWN_BANDS] = own.metadata[SHOWN_BANDS]
        for whole in ("napari_restore_result", "napari_restore_record"):
            layer.metadata.pop(whole, None)
        self.layer = layer
        self._widen()
        return True

    def mark(self, region: Region) -> None:
        """Mark a tile as finished; `ResultLayer` shows it at the next `refresh`."""
        self.done.mark(region)
        self._unfilled.append(region)

    def begin(self, region: Region) -> None:
        """Fill in the first tile, before the layer is in a viewer."""
        self.mark(region)
        self.fill()
        self._widen()

    def fill(self) -> None:
        """Take the tiles marked since the last time into the coarsest level, in one read."""
        regions, self._unfilled = self._unfilled, []
        if not regions:
            return
        y0, x0, y1, x1 = zip(*regions, strict=True)
        level = self._levels[-1]
        rows, columns = level.span(Region(min(y0), min(x0), max(y1), max(x1)))
        self._coarsest[rows, columns] = level[rows, columns, :]

    def mark_all(self, regions: Iterable[Region]) -> None:
        """Mark the finished tiles of an earlier store."""
        for region in regions:
            self.done.mark(region)
        self._unfilled.clear()
        self._coarsest[:] = self._levels[-1][:, :, :]

    def covers(self, region: Region) -> bool:
        """Return whether all of `region` that this shows is finished."""
        part = region.intersect(self.region)
        return part.is_empty or self.done.contains(part)

    def refresh(self) -> None:
        """Draw again what is in view, within limits that show it."""
        self.fill()
        self._widen()
        self.layer.refresh(extent=False)

    def refresh_after(self, tiles: Iterable[Region]) -> None:
        """Fill in what was marked; draw again if one of `tiles` is loaded for the screen."""
        self.fill()
        loaded = self._loaded()
        if any(not tile.intersect(loaded).is_empty for tile in tiles):
            self.refresh()

    def _loaded(self) -> Region:
        """Return the level-0 pixels that the layer has loaded for the screen."""
        # That is more than is visible: napari loads whole chunks and does not load them again when
        # the user pans within them.
        layer = self.layer
        if not layer.multiscale:
            return self.region
        factors = layer.downsample_factors[layer.data_level][-2:]
        corners = layer.corner_pixels[:, -2:]
        y0, x0 = np.floor(corners[0] * factors).astype(int)
        y1, x1 = np.ceil((corners[1] + 1) * factors).astype(int)
        return Region(int(y0), int(x0), int(y1), int(x1)).shift(self.box.y0, self.box.x0)

    def finish(self, result: Result) -> None:
        """Show the complete result, adjusted as it is: the layer can be saved and carries its record."""
        if self.result.adjustment != result.adjustment:
            result = result.with_adjustment(self.result.adjustment)
        self._complete = True
        self.fill()
        self._set_result(result)
        self._widen()

    def adjust(self, adjustment: Adjustment, *, check: bool = True) -> None:
        """Apply the restored pixels otherwise and show it at once; nothing is run.

        Where the source's levels are still to be made, the screen follows when they are.
        Raises `BadParameter` if the image lacks the bands that `adjustment` needs, and with `check`
        `SourceChanged` if the source is an array that was edited since it was restored.
        """
        result = self.result.with_adjustment(adjustment)
        # Files may lie far away: they are compared when the result is saved.
        if check and result.image.reader.in_memory:
            result.check_source()
        self._set_result(result)
        self._draw_all()

    def show_bands(self, bands: tuple[int, ...]) -> None:
        """Show other bands as red, green, blue and perhaps alpha; the layer is one in colour."""
        for level in self._levels:
            level.show_bands(bands)
        self.layer.metadata[SHOWN_BANDS] = bands
        self._draw_all()

    def _set_result(self, result: Result) -> None:
        self.result = result
        taken = [level.set_result(result) for level in self._levels]
        if not all(taken) and self._overview is None:
            self._build_levels()
        if self._complete:
            self.layer.metadata["napari_restore_result"] = result
            self.layer.metadata["napari_restore_record"] = result.record

    def _widen(self) -> None:
        """Let the contrast reach over what is finished, too, unless the user has set it."""
        # A method that takes haze away leaves values below the darkest of the source: within the
        # source's limits most of a satellite image would be black.
        source, limits = self._source(), tuple(self.layer.contrast_limits)
        found = None if source is None else source.metadata.get(LIMITS)
        if limits not in (found, self._limits):
            return
        step = -(-max(self._coarsest.shape[:2]) // SAMPLE_SIDE)
        levels = self._coarsest[::step, ::step]
        if self.layer.rgb:
            levels, valid = levels[..., :3], levels[..., 3] > 0
        else:
            levels = without_alpha(levels, self.result.image)
            valid = np.isfinite(levels).all(axis=2)
        valid &= ~without_light(levels, self.result.image)
        if not valid.any():
            return
        low, high = limits_of(levels, valid)
        # A little more is no reason for the picture to flicker while tiles come.
        if max(limits[0] - low, high - limits[1]) <= (limits[1] - limits[0]) * SLACK:
            return
        self._limits = wider = min(low, limits[0]), max(high, limits[1])
        self.layer.contrast_limits = wider
        if source is not None and tuple(source.contrast_limits) == wider:
            # It is shown alike; so the next result may widen these.
            source.metadata[LIMITS] = wider

    def _draw_all(self) -> None:
        self._unfilled.clear()
        self._coarsest[:] = self._levels[-1][:, :, :]
        self.refresh()

    def _build_levels(self) -> None:
        """Make the source's levels on a thread, as long as this is shown; then draw."""
        # To read around them would be to read all of level 0 in the thread of the window.
        image = self.result.image
        empty = np.zeros((*image.level_shapes[-1], image.bands), image.dtype)
        self._overview = self._display.shown(empty, image)
        shown = weakref.ref(self)

        def on_chunk(finished: bool) -> None:
            layer = shown()
            if finished and layer is not None:
                layer._on_levels()

        Growth(image, self._display, self._overview, on_chunk).start()

    def _on_levels(self) -> None:
        # Before it is drawn: after a failure the next adjustment tries again.
        self._overview = None
        for level in self._levels:
            level.set_result(self.result)
        self._draw_all()


class FinishedCells:
    """Which pixels of a region are finished, known in cells of 128 × 128."""

    def __init__(self, region: Region, size: tuple[int, int]) -> None:
        self.region = region
        self._cells = np.zeros((-(-size[0] // CELL), -(-size[1] // CELL)), bool)

    def mark(self, tile: Region) -> None:
        """Mark a tile as finished; `ResultLayer` shows it at the next `refresh`."""
        cells = tile.align(CELL)
        self._cells[cells.y0 // CELL : cells.y1 // CELL, cells.x0 // CELL : cells.x1 // CELL] = True

    def contains(self, region: Region) -> bool:
        """Return whether every pixel of `region` is finished."""
        cells = region.align(CELL)
        rows = slice(cells.y0 // CELL, cells.y1 // CELL)
        return bool(self._cells[rows, cells.x0 // CELL : cells.x1 // CELL].all())

    def at(
        self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.bool_]:
        """Return whether the level-0 pixels at the crossings of `rows` and `columns` are finished."""
        y0, x0, y1, x1 = self.region
        done: npt.NDArray[np.bool_] = self._cells[np.ix_(rows // CELL, columns // CELL)]
        return (
            done & ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None]
        )


Box = tuple[int, int, int, int]


class LevelOfCells:
    """One level of a result, or of a map of it, as an array that can be sliced while tiles come."""

    dtype: np.dtype[Any]
    nothing: float
    """The value of what is not finished."""
    bands: tuple[int, ...] = ()
    """The number of bands; none of a map."""

    def __init__(self, result: Result, done: FinishedCells, box: Region, level: int) -> None:
        self._done, self._level = done, level
        _, height, width = result.store.array(str(level)).shape
        step = 1 << level
        self._y, self._x = box.y0 // step, box.x0 // step
        rows = min(height, -(-box.y1 // step)) - self._y
        columns = min(width, -(-box.x1 // step)) - self._x
        self.shape = (rows, columns, *self.bands)
        self.ndim = len(self.shape)

    result: Result | None

    def _read(self, result: Result, box: Box, done: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Return the values of a box of the level, and nothing where it is not `done`."""
        raise NotImplementedError

    def __getitem__(self, where: tuple[slice, ...]) -> npt.NDArray[Any]:
        (y0, y1, _), (x0, x1, _), *bands = (
            part.indices(size) for part, size in zip(where, self.shape, strict=True)
        )
        y0, y1, x0, x1 = y0 + self._y, y1 + self._y, x0 + self._x, x1 + self._x
        done = self._done.at(np.arange(y0, y1) << self._level, np.arange(x0, x1) << self._level)
        result, box = self.result, (y0, x0, y1, x1)
        if result is None or not done.any():
            shown = np.full((y1 - y0, x1 - x0, *self.bands), self.nothing, self.dtype)
        else:
            # Clear beside the areas: an earlier result below stays visible.
            shown = self._read(result, box, done & result.reaches(box, self._level))
        return shown[..., slice(*bands[0])] if bands else shown

    def lazy(self) -> Any:
        """Return a dask array that reads in the store's own chunks each time it is computed."""
        rows, columns = _cuts(self._y, self.shape[0]), _cuts(self._x, self.shape[1])
        return read_again(self, (rows, columns, *self.bands))


class GrowingLevel(LevelOfCells):
    """One level of `result` as an array (y, x, band)."""

    # The bands `colour`, if there are any, get an alpha band; other values become floats, which
    # represent them exactly (up to 24 bits, or 53), so that NaN can stand where nothing is
    # finished.
    def __init__(
        self, result: Result, done: FinishedCells, colour: tuple[int, ...], box: Region, level: int
    ) -> None:
        self.result: Result | None = None
        """What is shown; None until there is one that can be read fast enough."""
        self._colour, own = colour, shown_dtype(result.image)
        # The smallest float that has every whole number, and NaN.
        self.dtype = np.result_type(own, np.float32) if own.kind in "iub" and not colour else own
        self.nothing = 0 if colour else np.nan
        self.bands = (4 if colour else result.image.bands,)
        super().__init__(result, done, box, level)

    def set_result(self, result: Result) -> bool:
        """Show `result` from now on, unless the window would have to wait for its pixels."""
        if not result.is_affordable(self._level):
            return False
        self.result = result
        return True

    def show_bands(self, bands: tuple[int, ...]) -> None:
        """Show these from now on."""
        self._colour = bands

    def _read(self, result: Result, box: Box, done: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        pixels = result.read_landed(box, self._level)
        if not self._colour:
            shown = on_screen(pixels, result.image)
            return np.where(done[..., None], shown, self.dtype.type(np.nan))
        pixels = colours(pixels, result.image, self._colour)
        opaque = np.iinfo(self.dtype).max if self.dtype.kind in "iu" else 1
        alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.full(done.shape, opaque, self.dtype)
        return np.dstack([pixels[..., :3], np.where(done, alpha, 0)]).astype(self.dtype)

    def span(self, region: Region) -> tuple[slice, slice]:
        """Return rows and columns of this array that a level-0 region touches."""
        step = 1 << self._level
        return (
            slice(max(0, region.y0 // step - self._y), max(0, -(-region.y1 // step) - self._y)),
            slice(max(0, region.x0 // step - self._x), max(0, -(-region.x1 // step) - self._x)),
        )


def _steps(region: Region, smallest: int) -> int:
    """Return how often a region is halved for its coarsest level; a store has seven further ones."""
    steps = 0
    while steps < 7 and max(region.shape) >> steps > smallest:
        steps += 1
    return steps


def _cuts(offset: int, length: int) -> tuple[int, ...]:
    """Return lengths of the pieces of [offset, offset + length) between multiples of CHUNK."""
    inner = range((offset // CHUNK + 1) * CHUNK, offset + length, CHUNK)
    edges = [offset, *inner, offset + length]
    return tuple(b - a for a, b in itertools.pairwise(edges))
