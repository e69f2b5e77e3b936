"""Luma of a source, and the blending of a result with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.statistics.context import (
    ROUGH,
    compute_context,
    find_context,
    load_context,
)
from napari_restore.images import Radiometry, needs_percentile
from napari_restore.models import Context
from napari_restore.questions import colours_of

Pixels = npt.NDArray[Any]
Plane = npt.NDArray[Any]
"""(h, w) floats."""

REC_709 = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luma (Rec. ITU-R BT.709-6, item 3.2)."""
SHADOWS, HIGHLIGHTS = 1 / 3, 2 / 3
"""Lumas below and above which the protection of shadows and highlights begins."""


@dataclass(frozen=True)
class LumaModel:
    """Luma of one image and the adjustments that depend on it.

    Luma is that of Rec. 709 on red, green and blue in model range (those of the working space for a
    photo with a profile of its own); where these bands are not known, the mean of `bands`, those
    the model takes.
    """

    radiometry: Radiometry
    bands: tuple[int, ...]
    colours: tuple[int, int, int] | None
    is_display: bool = False
    """Whether values are display values (sRGB), rather than linear light."""

    @classmethod
    def of_run(cls, plan: Plan, record: Mapping[str, Any]) -> LumaModel:
        """Return the luma with the black and white of the run's `record`, or of its `plan` before that exists."""
        measured = record.get("input", {})
        if measured.get("white") is not None:
            black = np.array(measured["black"], np.float64)
            radiometry = Radiometry(black, measured["white"], "", "", plan.image.working_space)
        else:
            radiometry = plan.radiometry(_context_of(plan))
        return cls(radiometry, plan.bands, colours_of(plan.image.roles), plan.image.is_display)

    def in_16_bits(self) -> LumaModel:
        """Return the same luma, of pixels of 8 bits in 16."""
        return replace(self, radiometry=self.radiometry.in_16_bits())

    def luma(self, pixels: Pixels) -> Plane:
        """Return (h, w) of (h, w, C) source values: 0 is black, 1 is white."""
        return self.luma_of(self.model_values(pixels, self.colours or self.bands))

    def share(self, pixels: Pixels, shadows: float, highlights: float) -> Plane:
        """Return (h, w) float32 share of a change that remains when tones are protected.

        ``(1 - shadows (1 - s(0, 1/3, Y))) (1 - highlights s(2/3, 1, Y))`` with the source's luma Y
        and the cubic step s(a, b, Y) = t² (3 - 2 t), t = (Y - a) / (b - a) clipped to 0 … 1
        (smoothstep of the OpenGL shading language, 8.3). In the middle third the share is 1, at
        black and white 1 less the settings.
        """
        luma = self.luma(pixels)
        low = 1 - _step(luma / SHADOWS)
        high = _step((luma - HIGHLIGHTS) / (1 - HIGHLIGHTS))
        return ((1 - shadows * low) * (1 - highlights * high)).astype(np.float32)

    def shift(self, source: Pixels, restored: Pixels, strength: Plane) -> Pixels:
        """Return (h, w, 3) change of red, green and blue, in model range, that keeps the colour.

        The same amount ``d = strength (Y(restored) - Y(source))`` is added to all three: the blend
        mode "luminosity" (W3C, Compositing and Blending Level 1, SetLum and ClipColor), which
        leaves the colour differences of Y'CbCr as they were. Scaling all three instead would keep
        their ratio, but has no meaning in black, makes noise of dark pixels into colour, and is not
        what haze does: it adds a grey veil. Where a band would leave what the file's type can
        represent, all three are moved towards their luma until it does not: lightness comes before
        saturation.
        """
        assert self.colours is not None
        model_values = self.model_values(source, self.colours)
        before = self.luma_of(model_values)
        step = self.luma_of(self.model_values(restored, self.colours) - model_values) * strength
        change = np.repeat(step[..., None], 3, axis=2)
        low, high = self.limits(source.dtype)
        beyond = np.zeros(step.shape, bool)
        for band in range(3):
            moved = model_values[..., band] + step
            beyond |= (moved < low[band]) | (moved > high[band])
        if beyond.any():
            change[beyond] = within_limits(
                model_values[beyond], before[beyond], step[beyond], low, high
            )
        return change

    def model_values(self, pixels: Pixels, bands: tuple[int, ...]) -> Pixels:
        """Return (h, w, c) of `bands` in model range, in float32 where that is exact enough."""
        if pixels.dtype.itemsize > 2:
            return self.radiometry.to_model(pixels)[..., list(bands)]
        return self.radiometry.to_model_tile(pixels, bands)

    def luma_of(self, model_values: Pixels) -> Plane:
        """Return (h, w) luma of (h, w, c) values of `colours`, or of `bands` where it is None."""
        # Band by band: a matrix product rounds differently for boxes of another shape.
        count = model_values.shape[2]
        weights = REC_709 if self.colours is not None else (1 / count,) * count
        total: Plane = model_values[..., 0] * model_values.dtype.type(weights[0])
        for band in range(1, count):
            total += model_values[..., band] * model_values.dtype.type(weights[band])
        return total

    def limits(self, dtype: np.dtype[Any]) -> tuple[Plane, Plane]:
        """Return (3,) smallest and largest values, in model range, that each colour can have."""
        if dtype.kind not in "iu":
            return np.full(3, -np.inf), np.full(3, np.inf)
        chosen, whole = list(self.colours or ()), np.iinfo(dtype)
        black, span = self.radiometry.black[chosen], self.radiometry.span[chosen]
        return (whole.min - black) / span, (whole.max - black) / span


def blend(
    source: Pixels,
    restored: Pixels,
    strength: npt.NDArray[np.float32],
    nodata: float | None,
    valid: npt.NDArray[np.bool_] | None = None,
    luma_model: LumaModel | None = None,
) -> Pixels:
    """Return source + strength · (restored − source), (h, w, C), in the source's dtype.

    Strength 0 gives the source and strength 1 the restored value, bit for bit; a valid value never
    becomes nodata. With `luma_model`, only the luma of red, green and blue changes.
    """
    if luma_model is None or luma_model.colours is None:
        mixed = _mix(source, restored, strength, nodata)
    else:
        mixed = np.empty_like(source)
        chosen = list(luma_model.colours)
        others = [band for band in range(source.shape[2]) if band not in chosen]
        mixed[..., others] = _mix(source[..., others], restored[..., others], strength, nodata)
        mixed[..., chosen] = luma_model.radiometry.apply_change(
            source[..., chosen],
            luma_model.shift(source, restored, strength),
            luma_model.colours,
            nodata,
        )
    keep = strength == 0 if valid is None else (strength == 0) | ~valid
    return np.where(keep[..., None], source, mixed)


def _mix(
    source: Pixels, restored: Pixels, strength: npt.NDArray[np.float32], nodata: float | None
) -> Pixels:
    if source.shape[2] == 0:
        return source
    plain = Radiometry(np.zeros(source.shape[2]), 1.0, "", "")
    wide = np.float64 if source.dtype.itemsize > 2 else np.float32
    change = (restored.astype(wide) - source.astype(wide)) * strength[..., None]
    mixed = plain.apply_change(source, change, tuple(range(source.shape[2])), nodata)
    return np.where((strength == 1)[..., None], restored, mixed)


def within_limits(colours: Pixels, before: Plane, step: Plane, low: Plane, high: Plane) -> Pixels:
    """Return (n, 3) changes that bring `colours` to luma `before` + `step` within their limits."""
    luma = np.clip(before + step, low.max(), high.min())[:, None]
    apart = colours - before[:, None]
    # As rounded, `luma` may lie beyond a limit.
    room = np.maximum(np.where(apart < 0, luma - low, high - luma), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(np.abs(apart) > room, room / np.abs(apart), 1).min(axis=1)
    change: Pixels = luma + kept[:, None] * apart - colours
    return change


def _context_of(plan: Plan) -> Context | None:
    """Return the context that a run of `plan` has computed, where the white value depends on it."""
    if not needs_percentile(plan.image, plan.reading.white, plan.reading.black):
        return None
    if plan.reading.context is not None:
        return load_context(Path(plan.reading.context), plan.image)
    image, extent = plan.image.full or plan.image, plan.reading.extent
    exclude = open_exclude(plan.reading, image)
    if extent in ROUGH:
        # That of a draft is in the memory of the process that runs it.
        is_placed = plan.model.card.placed
        return compute_context(image, exclude=exclude, extent=extent, sampled=not is_placed)
    return find_context(image, exclude, plan.described, overview=False)


def _step(t: Plane) -> Plane:
    t = np.clip(t, 0, 1)
    stepped: Plane = t * t * (3 - 2 * t)
    return stepped
