"""Side maps of a result as layers: change, transmission, ghosts, quality."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.plugin.compare._quality import CATEGORIES, categories, categories_of_change
from napari_restore.plugin.layers._placing import plane_of
from napari_restore.questions import Adjustment

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_restore.plugin.state._variant import Variant

Make = Callable[[Region, int], npt.NDArray[Any]]
"""Makes a map (h, w) of a level-0 region at 1 : step."""
MAPS = ("change", "transmission", "ghosts", "quality")
MODEL_MAPS = {"transmission": "viridis", "ghosts": "magma"}
"""Maps that a model may leave, 0 to 1, with their colormaps."""
CHUNK = 512
KEPT_SIDE = 2048
"""Maps that the run kept have one level on disk: the others of at most this side lie in memory."""
STRIP = 256
"""Rows of a level in memory that are made at a time."""
NOTHING = Adjustment(strength=0.0)
_numbers = itertools.count()


def available(variant: Variant) -> tuple[str, ...]:
    """Return the maps of `variant`: change and quality always, stored ones once it is finished."""
    kept = variant.shown.result.store.map_names if variant.result is not None else ()
    return tuple(name for name in MAPS if name not in MODEL_MAPS or name in kept)


class SideMap:
    """One map of a result, with the levels its layer needs.

    Change and, where the run kept no map of it, quality are made from source and
    result when they are drawn, at every level. `build` must be called before `layer`.
    """

    def __init__(self, variant: Variant, name: str) -> None:
        self.variant = variant
        self.name = name
        box = variant.shown.box
        shapes = variant.layer.level_shapes if variant.layer.multiscale else [box.shape]
        self._steps = [2**level for level in range(len(shapes))]
        self._sizes = [(-(-box.height // step), -(-box.width // step)) for step in self._steps]
        self._box = box
        self._is_kept = name in variant.shown.result.store.map_names and variant.result is not None
        self.dtype = np.dtype(np.uint8 if name == "quality" else np.float32)
        self._make = self._of_store if self._is_kept else self._of_pixels
        last = len(self._steps) - 1
        small = [n for n, size in enumerate(self._sizes) if max(size) <= KEPT_SIDE and n > 0]
        self._in_memory = range(small[0] if self._is_kept and small else last, last + 1)
        self._coarse: list[npt.NDArray[Any]] = []
        self.limit = 1.0
        """The largest change there is, near enough."""

    def build(self) -> SideMap:
        """Make the coarse levels, which napari 0.9 needs in memory; not in the GUI thread."""
        first = self._in_memory[0]
        height, width = self._sizes[first]
        step = self._steps[first]
        finest = np.zeros((height, width), self.dtype)
        for y in range(0, height, STRIP):
            stop = min(height, y + STRIP)
            finest[y:stop] = self._part(y, 0, stop, width, step)
        made = [finest]
        for size in self._sizes[first + 1 :]:
            made.append(np.ascontiguousarray(made[-1][::2, ::2][: size[0], : size[1]]))
        if self._coarse:
            for kept, new in zip(self._coarse, made, strict=True):
                kept[:] = new
        else:
            self._coarse = made
        if self.name == "change" and np.isfinite(made[-1]).any():
            self.limit = float(np.nanpercentile(np.abs(made[-1]), 99)) or 1.0
        return self

    def layer(self) -> Layer:
        """Return a new layer over the result."""
        from napari.layers import Image, Labels
        from napari.utils.colormaps import DirectLabelColormap

        lazy = [self._lazy(level) for level in range(self._in_memory[0])]
        arrays = [*lazy, *self._coarse]
        source = self.variant.source
        arguments: dict[str, Any] = {
            "name": f"{self.name.capitalize()}: {self.variant.name}",
            "multiscale": len(arrays) > 1,
            "cache": False,
            "affine": plane_of(self.variant.layer),
            "units": source.units[-2:],
            "axis_labels": source.axis_labels[-2:],
            "metadata": {
                "napari_restore_source": source.unique_id,
                "napari_restore_record": self.variant.record,
            },
        }
        data = arrays if len(arrays) > 1 else arrays[0]
        if self.name == "quality":
            colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
            colours |= {c.label: c.colour for c in CATEGORIES}
            return Labels(data, colormap=DirectLabelColormap(color_dict=colours), **arguments)
        if self.name in MODEL_MAPS:
            colormap = MODEL_MAPS[self.name]
            return Image(data, colormap=colormap, contrast_limits=(0, 1), **arguments)
        limits = (-self.limit, self.limit)
        return Image(data, colormap="PiYG", contrast_limits=limits, **arguments)

    # -- pixels ------------------------------------------------------------------

    def _of_pixels(self, region: Region, step: int) -> npt.NDArray[Any]:
        """Compute from source and result, in the image's own values."""
        result = self.variant.shown.result
        level = self._steps.index(step)
        _, height, width = result.store.array(str(level)).shape
        corner = region.y0 // step, region.x0 // step
        shape = -(-region.height // step), -(-region.width // step)
        inside = Region(*corner, corner[0] + shape[0], corner[1] + shape[1])
        inside = inside.intersect(Region(0, 0, height, width))
        nothing = 0 if self.name == "quality" else np.nan
        made = np.full(shape, nothing, self.dtype)
        if inside.is_empty:
            return made
        done = self.variant.shown.finished(
            np.arange(inside.y0, inside.y1) * step, np.arange(inside.x0, inside.x1) * step
        )
        if done.any():
            after = result.read_landed(inside, level)
            # At strength 0 a result is its source, made smaller in the same way.
            before = result.with_adjustment(NOTHING).read_landed(inside, level)
            values = self._compared(before, after)
            if self.name == "quality":
                left_out = categories(result.left_out(inside, level))
                values = np.where(left_out > 0, left_out, values)
            made[: inside.height, : inside.width] = np.where(done, values, nothing)
        return made

    def _compared(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.name == "quality":
            return categories_of_change(before, after)
        with np.errstate(invalid="ignore"):
            change: npt.NDArray[Any] = (after.astype(np.float64) - before).mean(2)
        return change

    def _of_store(self, region: Region, step: int) -> npt.NDArray[Any]:
        """Read the map the run has stored, at its one level."""
        result = self.variant.shown.result
        inside = region.intersect(result.region)
        rows = np.arange(region.y0 + step // 2, region.y1, step)
        columns = np.arange(region.x0 + step // 2, region.x1, step)
        nothing = 0 if self.name == "quality" else np.nan
        made = np.full((len(rows), len(columns)), nothing, self.dtype)
        if inside.is_empty:
            return made
        values = result.read_map(self.name, inside)[..., 0]
        if self.name == "quality":
            values = categories(values)
        own_y = (rows >= inside.y0) & (rows < inside.y1)
        own_x = (columns >= inside.x0) & (columns < inside.x1)
        picked = np.ix_(rows[own_y] - inside.y0, columns[own_x] - inside.x0)
        made[np.ix_(own_y, own_x)] = values[picked]
        return made

    def _part(self, y0: int, x0: int, y1: int, x1: int, step: int) -> npt.NDArray[Any]:
        """Return rows and columns of the level at 1 : `step`."""
        box = self._box
        region = Region(y0 * step, x0 * step, y1 * step, x1 * step).shift(box.y0, box.x0)
        made: npt.NDArray[Any] = self._make(region, step)
        return made

    def _lazy(self, level: int) -> Any:
        import dask.array as da

        array = _Level(self, self._steps[level], self._sizes[level])
        name = f"napari-restore-map-{next(_numbers)}"
        return da.from_array(
            array,
            chunks=CHUNK,
            name=name,
            asarray=False,
            fancy=False,
            meta=np.empty((0, 0), self.dtype),
        )


class _Level:
    """One level of a map as an array that can be cut."""

    ndim = 2

    def __init__(self, made: SideMap, step: int, shape: tuple[int, int]) -> None:
        self._map = made
        self._step = step
        self.shape = shape
        self.dtype = made.dtype

    def __getitem__(self, where: tuple[slice, slice]) -> npt.NDArray[Any]:
        (y0, y1, _), (x0, x1, _) = (
            part.indices(size) for part, size in zip(where, self.shape, strict=True)
        )
        return self._map._part(y0, x0, y1, x1, self._step)
