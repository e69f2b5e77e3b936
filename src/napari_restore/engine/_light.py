"""Luma of a source, and what a result's pixels become under an adjustment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._adjust import colours_of
from napari_restore.engine._context import find_context, load_context
from napari_restore.engine._plan import Plan
from napari_restore.engine._weight import open_weight
from napari_restore.images import Radiometry, needs_percentile
from napari_restore.models import Context

Pixels = npt.NDArray[Any]
Plane = npt.NDArray[Any]
"""(h, w) floats."""

REC_709 = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luma (Rec. ITU-R BT.709-6, item 3.2)."""
SHADOWS, HIGHLIGHTS = 1 / 3, 2 / 3
"""Lumas below and above which the protection of shadows and highlights sets in."""


@dataclass(frozen=True)
class Light:
    """What luma is in one image, and what may be done with it.

    Luma is that of Rec. 709 on red, green and blue in model range (those of the
    working space for a photo with a profile of its own); where these bands are not
    known, the mean of `bands`, those the model sees.
    """

    radiometry: Radiometry
    bands: tuple[int, ...]
    colours: tuple[int, int, int] | None

    @classmethod
    def of_run(cls, plan: Plan, record: Mapping[str, Any]) -> Light:
        """As the run saw black and white: its `record` tells, before there is one its `plan`."""
        seen = record.get("input", {})
        if seen.get("white") is not None:
            black = np.array(seen["black"], np.float64)
            radiometry = Radiometry(black, seen["white"], "", "", plan.image.working_space)
        else:
            radiometry = plan.radiometry(_context_of(plan))
        return cls(radiometry, plan.bands, colours_of(plan.image))

    def luma(self, pixels: Pixels) -> Plane:
        """Return (h, w) of (h, w, C) source values: 0 is black, 1 is white."""
        return self._luma_of(self._seen(pixels, self.colours or self.bands))

    def share(self, pixels: Pixels, shadows: float, highlights: float) -> Plane:
        """Return (h, w) float32 share of a change that the protection of tones lets through.

        ``(1 - shadows (1 - s(0, 1/3, Y))) (1 - highlights s(2/3, 1, Y))`` with the source's luma Y
        and the cubic step s(a, b, Y) = t² (3 - 2 t), t = (Y - a) / (b - a) clipped to 0 … 1
        (smoothstep of the OpenGL shading language, 8.3). The middle third passes whole, black and
        white as the settings say.
        """
        luma = self.luma(pixels)
        low = 1 - _step(luma / SHADOWS)
        high = _step((luma - HIGHLIGHTS) / (1 - HIGHLIGHTS))
        share: Plane = ((1 - shadows * low) * (1 - highlights * high)).astype(np.float32)
        return share

    def shift(self, source: Pixels, restored: Pixels, weight: Plane) -> Pixels:
        """Return (h, w, 3) change of red, green and blue, in model range, that keeps the colour.

        The same amount ``d = weight (Y(restored) - Y(source))`` is added to all three: the blend
        mode "luminosity" (W3C, Compositing and Blending Level 1, SetLum and ClipColor), which
        leaves the colour differences of Y'CbCr as they were. Scaling all three instead would keep
        their ratio, but has no meaning in black, makes noise of dark pixels into colour, and is not
        what haze does: it adds a grey veil. Where a band would leave what the file's type holds,
        all three are moved towards their luma until it does not: lightness comes before saturation.
        """
        assert self.colours is not None
        seen = self._seen(source, self.colours)
        before = self._luma_of(seen)
        step = self._luma_of(self._seen(restored, self.colours) - seen) * weight
        change = np.repeat(step[..., None], 3, axis=2)
        low, high = self._limits(source.dtype)
        beyond = np.zeros(step.shape, bool)
        for band in range(3):
            moved = seen[..., band] + step
            beyond |= (moved < low[band]) | (moved > high[band])
        if beyond.any():
            change[beyond] = _within(seen[beyond], before[beyond], step[beyond], low, high)
        return change

    def _seen(self, pixels: Pixels, bands: tuple[int, ...]) -> Pixels:
        """Return (h, w, c) of `bands` in model range, in float32 where that holds the values."""
        if pixels.dtype.itemsize > 2:
            wide: Pixels = self.radiometry.to_model(pixels)[..., list(bands)]
            return wide
        return self.radiometry.to_model_tile(pixels, bands)

    def _luma_of(self, seen: Pixels) -> Plane:
        # Band by band: a matrix product rounds differently for boxes of another shape.
        count = seen.shape[2]
        weights = REC_709 if self.colours is not None else (1 / count,) * count
        total: Plane = seen[..., 0] * seen.dtype.type(weights[0])
        for band in range(1, count):
            total += seen[..., band] * seen.dtype.type(weights[band])
        return total

    def _limits(self, dtype: np.dtype[Any]) -> tuple[Plane, Plane]:
        """Return (3,) smallest and largest values, in model range, that each colour can have."""
        if dtype.kind not in "iu":
            return np.full(3, -np.inf), np.full(3, np.inf)
        chosen, whole = list(self.colours or ()), np.iinfo(dtype)
        black, span = self.radiometry.black[chosen], self.radiometry.span[chosen]
        return (whole.min - black) / span, (whole.max - black) / span


def blend(
    source: Pixels,
    restored: Pixels,
    weight: npt.NDArray[np.float32],
    nodata: float | None,
    valid: npt.NDArray[np.bool_] | None = None,
    light: Light | None = None,
) -> Pixels:
    """Mix source + weight · (restored − source), (h, w, C), in the source's dtype.

    Weight 0 gives the source and weight 1 the restored value, bit for bit; a valid
    value is never moved onto nodata. With `light`, red, green and blue take the
    restored luma only.
    """
    if light is None or light.colours is None:
        mixed = _mix(source, restored, weight, nodata)
    else:
        mixed = np.empty_like(source)
        chosen = list(light.colours)
        others = [band for band in range(source.shape[2]) if band not in chosen]
        mixed[..., others] = _mix(source[..., others], restored[..., others], weight, nodata)
        mixed[..., chosen] = light.radiometry.apply_change(
            source[..., chosen], light.shift(source, restored, weight), light.colours, nodata
        )
    keep = weight == 0 if valid is None else (weight == 0) | ~valid
    blended: Pixels = np.where(keep[..., None], source, mixed)
    return blended


def _mix(
    source: Pixels, restored: Pixels, weight: npt.NDArray[np.float32], nodata: float | None
) -> Pixels:
    if source.shape[2] == 0:
        return source
    plain = Radiometry(np.zeros(source.shape[2]), 1.0, "", "")
    wide = np.float64 if source.dtype.itemsize > 2 else np.float32
    change = (restored.astype(wide) - source.astype(wide)) * weight[..., None]
    mixed = plain.apply_change(source, change, tuple(range(source.shape[2])), nodata)
    exact: Pixels = np.where((weight == 1)[..., None], restored, mixed)
    return exact


def _within(colours: Pixels, before: Plane, step: Plane, low: Plane, high: Plane) -> Pixels:
    """Return (n, 3) changes by which `colours` of luma `before` + `step` stay within their
    limits."""
    luma = np.clip(before + step, low.max(), high.min())[:, None]
    apart = colours - before[:, None]
    room = np.where(apart < 0, luma - low, high - luma)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(np.abs(apart) > room, room / np.abs(apart), 1).min(axis=1)
    change: Pixels = luma + kept[:, None] * apart - colours
    return change


def _context_of(plan: Plan) -> Context | None:
    """Return what a run of `plan` has found out about the whole image, where white follows from
    it."""
    if not needs_percentile(plan.image, white=plan.white):
        return None
    if plan.context_file is not None:
        return load_context(Path(plan.context_file), plan.image)
    exclude = open_weight(plan.exclude, plan.image) if plan.exclude else None
    region = plan.region if plan.extent == "region" else None
    return find_context(plan.image, exclude, region, extent=plan.extent)


def _step(t: Plane) -> Plane:
    t = np.clip(t, 0, 1)
    stepped: Plane = t * t * (3 - 2 * t)
    return stepped
