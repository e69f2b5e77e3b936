"""Layers of an expression over bands, as NDVI: of a source, of a result, and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore import api
from napari_restore.plugin.compare.maps_view import CATEGORIES, SideMap
from napari_restore.plugin.layers.layer_order import SOURCE
from napari_restore.plugin.layers.placing import plane_of
from napari_restore.plugin.layers.status import VALUE

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore import Region
    from napari_restore.images import Image
    from napari_restore.plugin.state.variant import Variant

AFTER, DIFFERENCE = "after", "difference"
COUNTED = 2**22
"""Pixels of the level on which the share of changed pixels is counted, at most."""
STRIP = 512
NODATA = next(each.bit for each in CATEGORIES if each.name == "nodata")
PERCENTILES = (2, 98)
Limits = tuple[float, float]


class IndexMap(SideMap):
    """An expression after a run, or its difference to before, with the levels its layer needs."""

    def __init__(self, variant: Variant, math: api.BandMath, part: str) -> None:
        super().__init__(variant, f"{math.name} {part}")
        self.math, self.part = math, part
        self.changes: npt.NDArray[np.float32] = np.empty(0, np.float32)
        """Absolute differences of the valid pixels of the level that was counted."""
        self.step = 1
        """Level-0 pixels along a side of one of these."""

    def build(self) -> IndexMap:
        super().build()
        if self.part == DIFFERENCE:
            self._count()
        return self

    def share(self, threshold: float) -> float:
        """Return the share, 0 … 1, of valid pixels that differ by more; NaN where there are none."""
        return float((self.changes > threshold).mean()) if self.changes.size else float("nan")

    def layer(self) -> Layer:
        made = super().layer()
        made.name = f"{self.math.name} {self.part}: {self.variant.name}"
        made.metadata[VALUE] = self.name
        if self.part == DIFFERENCE:
            finite = self.changes[np.isfinite(self.changes)]
            most = float(np.percentile(finite, 99)) if finite.size else 0.0
            made.contrast_limits = (-(most or 1.0), most or 1.0)
        else:
            made.colormap = "viridis"
            made.contrast_limits = limits_of(self._coarse[-1])
        return made

    def _compared(
        self, before: npt.NDArray[Any], after: npt.NDArray[Any], inside: Region, level: int
    ) -> npt.NDArray[Any]:
        result = self.variant.shown.result
        valid = (result.left_out(inside, level) & NODATA) == 0
        values = self.math.compute(after, valid)
        if self.part == DIFFERENCE:
            values = values - self.math.compute(before, valid)
        return values

    def _count(self) -> None:
        fitting = [n for n, size in enumerate(self._sizes) if size[0] * size[1] <= COUNTED]
        number = fitting[0] if fitting else len(self._sizes) - 1
        height, width = self._sizes[number]
        self.step = self._steps[number]
        parts = [np.empty(0, np.float32)]
        for y in range(0, height, STRIP):
            values = self._part(y, 0, min(height, y + STRIP), width, self.step)
            parts.append(np.abs(values[np.isfinite(values)]))
        self.changes = np.concatenate(parts)


def limits_of(values: npt.NDArray[Any]) -> Limits:
    """Return contrast limits for values, NaN where there are none."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


def source_levels(image: Image, expression: str, black: float | None) -> list[Any]:
    """Return the levels of an expression over `image`, the coarsest in memory; not in the GUI thread.

    napari 0.9 reads the coarsest level of a layer in the GUI thread. Raises `RestoreError`.
    """
    image.prepare()
    image.build_pyramid()
    levels = [
        api.band_math(image, expression, level=number, black=black)
        for number in range(len(image.level_shapes))
    ]
    levels[-1] = levels[-1].compute(scheduler="synchronous")
    return levels


def source_layer(source: ImageLayer, levels: list[Any], name: str) -> Layer:
    """Return the layer of an expression over the image of `source`."""
    from napari.layers import Image as ImageLayer

    return ImageLayer(
        levels if len(levels) > 1 else levels[0],
        name=f"{name} before: {source.name}",
        multiscale=len(levels) > 1,
        cache=False,
        affine=plane_of(source),
        units=source.units[-2:],
        axis_labels=source.axis_labels[-2:],
        colormap="viridis",
        contrast_limits=limits_of(levels[-1]),
        metadata={SOURCE: source.unique_id, VALUE: f"{name} before"},
    )
