"""Expressions over bands, as NDVI: of an image, and before and after a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.api._images import Bands, open_image
from napari_restore.errors import BadParameter
from napari_restore.images import BandMath, lazy_array

if TYPE_CHECKING:
    from napari_restore.engine import Result

THRESHOLD = 0.01
"""Difference of an index from which on it is counted as changed."""
CHUNK = (1024, 1024)


def band_math(
    image: Any,
    expression: str,
    *,
    level: int = 0,
    bands: Bands | None = None,
    sensor: str | None = None,
    black: float | None = None,
) -> Any:
    """Compute an expression over the bands of an image, lazily, in reflectance where that is known.

    Parameters
    ----------
    image
        What `open_image` takes.
    expression
        "NDVI", "NDWI", "NDMI", "NBR", "SAVI", "EVI", or arithmetic of bands: their names in the file
        ("SR_B5"; in quotes where they are no single word), their roles ("nir"; "swir1", "swir2") or
        "b1" for the first; numbers, ``+ - * / **``, abs, sqrt, log, exp, min, max.
    level
        Of the image's levels, 0 is the finest.
    bands, sensor
        As of `open_image`.
    black
        The value of no light, where the image's own is wrong.

    Returns
    -------
    dask.array.Array
        (h, w) float32 of `level`, NaN where a pixel is not valid, a band of the expression is nodata,
        or the result is not finite.

    Raises
    ------
    napari_restore.errors.BadParameter
        For an expression that is not understood, or names a band that the image lacks.
    """
    opened = open_image(image, bands=bands, sensor=sensor)
    if not 0 <= level < len(opened.level_shapes):
        count = len(opened.level_shapes)
        raise BadParameter(
            f"{opened.name} has no level {level}.", f"Its levels are 0 to {count - 1}."
        )
    math = BandMath(opened, expression, black)

    def compute(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        return math.compute(opened.read(box, level), opened.read_valid(box, level))

    return lazy_array(compute, opened.level_shapes[level], np.float32, CHUNK)


@dataclass(frozen=True)
class BandMathChange:
    """An expression over the bands before and after a run, over the region of its result."""

    name: str
    formula: str
    """The expression, of what, and which bands it names."""
    before: Any
    """A dask array (h, w) float32, NaN where not valid."""
    after: Any
    """The same of the result."""

    @property
    def difference(self) -> Any:
        """After less before, (h, w) float32."""
        return self.after - self.before

    def share(self, threshold: float = THRESHOLD) -> float:
        """Return the share of the valid pixels that differ by more than a threshold.

        Reads all of image and result, chunk by chunk.

        Parameters
        ----------
        threshold
            In units of the expression.

        Returns
        -------
        float
            0 … 1; NaN if no pixel is valid.
        """
        from dask.base import compute

        there = ~(np.isnan(self.before) | np.isnan(self.after))
        changed = there & (abs(self.difference) > threshold)
        many, all_of_them = compute(changed.sum(), there.sum())  # type: ignore[no-untyped-call]
        return float(many / all_of_them) if all_of_them else float("nan")

    def warning(self, threshold: float = THRESHOLD) -> str | None:
        """Return a sentence where any valid pixel differs by more than a threshold.

        Parameters
        ----------
        threshold
            In units of the expression.

        Returns
        -------
        str or None
            The sentence.
        """
        return change_text(self.name, threshold, self.share(threshold))


def change_text(name: str, threshold: float, share: float) -> str | None:
    """Return the sentence on the `share`, 0 … 1, of pixels that differ by more; None for none."""
    if not share > 0:
        return None
    shown = "less than 0.1 %" if share < 1e-3 else f"{share:.1%}".replace("%", " %")
    return f"{name} differs by more than {threshold:g} in {shown} of the valid pixels."


def band_math_change(result: Result, expression: str) -> BandMathChange:
    """Return an expression of `band_math` before and after a run, over the region of `result`.

    Parameters
    ----------
    result
        What `restore` returned. The zero is the one of its run.
    expression
        As for `band_math`.

    Returns
    -------
    BandMathChange
        `.before`, `.after` and `.difference`, lazy (h, w) float32; ``.share(threshold)``.

    Raises
    ------
    napari_restore.errors.BadParameter
        The expression cannot be read, or names a band that the image does not have.
    """
    image, region = result.image, result.region
    math = BandMath(image, expression, result.plan.reading.black)

    def placed(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        y0, x0, y1, x1 = box
        return y0 + region.y0, x0 + region.x0, y1 + region.y0, x1 + region.x0

    def before(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        return math.compute(image.read(placed(box)), image.read_valid(placed(box)))

    def after(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        return math.compute(result.read(placed(box)), image.read_valid(placed(box)))

    lazy = (lazy_array(compute, region.shape, np.float32, CHUNK) for compute in (before, after))
    return BandMathChange(math.name, math.describe(image), *lazy)
