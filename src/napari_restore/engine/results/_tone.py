"""Tone and colour of a photo: white balance, tones, local contrast and saturation, in this order.

White balance is computed in linear light of sRGB's primaries, all else in OKLab (Ottosson, "A
perceptual color space for image processing", 2020), whose lightness is that of a grey. A *tone* is
the display value, sRGB 0 to 1, of that grey; so a curve has the axes of a histogram. Where lightness
changes, colour is scaled alike, as if more or less light had come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.results.luma import LumaModel, within_limits
from napari_restore.images import light_of_srgb, srgb_of_light
from napari_restore.questions import NEUTRAL_KELVIN, Adjustment, ToneCurve, curve_points

Pixels = npt.NDArray[Any]
Plane = npt.NDArray[Any]
"""(h, w) floats."""
Means = Callable[[Plane], Plane]
"""Local means of tones, for the tones."""

_XYZ_OF_RGB = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
"""IEC 61966-2-1."""
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
"""Of XYZ into the sharpened cone responses of Lam and Rigg (ICC.1:2022, annex E)."""
_LMS_OF_RGB = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LAB_OF_CONES = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""Of cube roots of cone responses (Ottosson)."""
_CONES_OF_LAB = np.linalg.inv(np.array(_LAB_OF_CONES))
_RGB_OF_LMS = np.linalg.inv(np.array(_LMS_OF_RGB))
TINT_OF_DUV = 3000
"""Units of tint in one of the CIE 1960 plane (Adobe DNG SDK, dng_temperature)."""
RISE, FALL = 1.5, 0.9
"""How far `shadows` 100 raises and -100 lowers tones: the slope at black is 1 + RISE, 1 - FALL."""
MOST_CHROMA = 4.0
"""Largest factor on colour where lightness grows, for a curve that lifts black."""
CELLS = 256
"""Cells along the longer side of the image from which local means are made, about."""
AROUND = 3
"""Cells to each side of one in its window: some 1.4 % of the longer side."""
MARGIN = 2 * AROUND + 1
"""Cells around a box on which its local means depend."""
EDGE = 0.0025
"""Variance of tone from which an edge is kept: a standard deviation of 0.05. With one of 0.1, halos are 1.7 times as
high, and detail of 0.02 to 0.04 gains 1.1 to 1.4 times as much."""


def kelvin_chromaticity(kelvin: float) -> tuple[float, float]:
    """Return x and y of a black body of 1667 to 25 000 K.

    Source: Kang et al., "Design of advanced color temperature control system for HDTV
    applications", J. Korean Phys. Soc. 41 (2002) 865.
    """
    t = 1000 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return x, y


def _locus(kelvin: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return u, v (CIE 1960) of a black body, and the unit normal there, towards green."""
    here, along = _uv(kelvin), _uv(kelvin * 1.001) - _uv(kelvin / 1.001)
    normal = np.array([-along[1], along[0]]) / np.hypot(*along)
    return here, normal if normal[1] > 0 else -normal


def _uv(kelvin: float) -> npt.NDArray[Any]:
    x, y = kelvin_chromaticity(kelvin)
    return np.array([4 * x, 6 * y]) / (-2 * x + 12 * y + 3)


def white_of(kelvin: float, tint: float) -> npt.NDArray[Any]:
    """Return XYZ, Y = 1, of light of this temperature and tint; tint above 0 is greenish light."""
    here, normal = _locus(kelvin)
    u, v = here + normal * (tint / TINT_OF_DUV)
    x, y = np.array([3 * u, 2 * v]) / (2 * u - 8 * v + 4)
    return np.array([x / y, 1, (1 - x - y) / y])


def balance_matrix(kelvin: float, tint: float) -> npt.NDArray[Any]:
    """Return (3, 3) that makes linear red, green and blue under this light those under 6500 K, by Bradford."""
    cones = _BRADFORD @ _XYZ_OF_RGB
    gains = (_BRADFORD @ white_of(NEUTRAL_KELVIN, 0)) / (_BRADFORD @ white_of(kelvin, tint))
    matrix: npt.NDArray[Any] = np.linalg.inv(cones) @ np.diag(gains) @ cones
    return matrix


def balance_of_grey(light: npt.NDArray[Any]) -> tuple[float, float]:
    """Return temperature and tint that make linear (red, green, blue) grey, within their limits."""
    cones = _BRADFORD @ _XYZ_OF_RGB
    neutral = _BRADFORD @ white_of(NEUTRAL_KELVIN, 0)
    x, y, z = np.linalg.inv(_BRADFORD) @ (cones @ light * neutral / (cones @ np.ones(3)))
    wanted = np.array([4 * x, 6 * y]) / (x + 15 * y + 3 * z)
    low, high = 1e6 / 25_000, 1e6 / 2000
    # The nearest on the locus, which bends little: in steps of mired, ever finer.
    for _ in range(8):
        mireds = np.linspace(low, high, 33)
        far = [np.hypot(*(wanted - _uv(1e6 / mired))) for mired in mireds]
        nearest, step = mireds[int(np.argmin(far))], mireds[1] - mireds[0]
        low, high = max(low, nearest - step), min(high, nearest + step)
    kelvin = 1e6 / nearest
    here, normal = _locus(kelvin)
    tint = float((wanted - here) @ normal) * TINT_OF_DUV
    return round(kelvin), round(float(np.clip(tint, -150, 150)), 1)


@dataclass(frozen=True)
class Tones:
    """Changes tone and colour of pixels as an adjustment says.

    `bands` are red, green and blue, or the one band of a grey photo. `is_display`: their values are
    display values, rather than light.
    """

    adjustment: Adjustment
    luma_model: LumaModel
    bands: tuple[int, ...]
    is_display: bool

    def apply(self, pixels: Pixels, nodata: float | None, means: Means | None = None) -> Pixels:
        """Return pixels (h, w, C) in their dtype; only `bands` change.

        `means` gives the local means of their tones, for local contrast. Where a colour is beyond
        what the type can represent, it is moved towards the grey of its luminance in linear light.
        """
        before = self.luma_model.model_values(pixels, self.bands)
        lab = self._balanced(self._light(before))
        if self._moves_tones or means is not None:
            self._change_tone(lab, means)
        if self.adjustment.saturation:
            factor = before.dtype.type(1 + self.adjustment.saturation / 100)
            lab[1:] = [plane * factor for plane in lab[1:]]
        after = self._within_type(_light_of_lab(lab), pixels.dtype)
        if self.is_display:
            after = srgb_of_light(after)
        changed = pixels.copy()
        changed[..., list(self.bands)] = self.luma_model.radiometry.apply_change(
            pixels[..., list(self.bands)], after - before, self.bands, nodata
        )
        return changed

    def tone(self, pixels: Pixels) -> Plane:
        """Return (h, w) tones of pixels after white balance, highlights, shadows and curve."""
        lab = self._balanced(self._light(self.luma_model.model_values(pixels, self.bands)))
        return self._curved(srgb_of_light(lab[0] ** 3))

    def light(self, pixels: Pixels) -> Pixels:
        """Return (h, w, c) of `bands` in linear light, 1 at white, as they are."""
        return self._light(self.luma_model.model_values(pixels, self.bands))

    def _light(self, values: Pixels) -> Pixels:
        return light_of_srgb(values) if self.is_display else values

    def _balanced(self, light: Pixels) -> list[Plane]:
        """Return OKLab planes of (h, w, c) linear light, after the white balance."""
        if len(self.bands) == 1:
            return [np.cbrt(light[..., 0])]
        planes = [light[..., band] for band in range(3)]
        cones = _times(self._cones_of_light, planes)
        return _times(_LAB_OF_CONES, [np.cbrt(plane) for plane in cones])

    @cached_property
    def _cones_of_light(self) -> Any:
        asked = self.adjustment
        if asked.temperature == NEUTRAL_KELVIN and not asked.tint:
            return _LMS_OF_RGB
        return np.array(_LMS_OF_RGB) @ balance_matrix(asked.temperature, asked.tint)

    @cached_property
    def _curve(self) -> ToneCurve | None:
        return (
            None
            if self.adjustment.curve is None
            else ToneCurve(curve_points(self.adjustment.curve))
        )

    def _curved(self, tone: Plane) -> Plane:
        """Return tones after highlights, shadows and curve."""
        # Shadows add p v (1 - v)³ to a tone v, highlights the same from white; black and white
        # stay. Beyond them tones move as these do.
        inside = np.clip(tone, 0, 1)
        up = self.adjustment.shadows / 100
        down = -self.adjustment.highlights / 100
        moved = inside
        if up:
            gain = tone.dtype.type(up * (RISE if up > 0 else FALL))
            moved = moved + gain * inside * (1 - inside) ** 3
        if down:
            gain = tone.dtype.type(down * (RISE if down > 0 else FALL))
            moved = moved - gain * (1 - inside) * inside**3
        if self._curve is not None:
            moved = self._curve(moved)
        curved: Plane = moved + (tone - inside)
        return curved

    @property
    def _moves_tones(self) -> bool:
        asked = self.adjustment
        return bool(asked.shadows or asked.highlights or asked.curve)

    def _change_tone(self, lab: list[Plane], means: Means | None) -> None:
        """Change the lightness of OKLab planes, and the colours in proportion."""
        before = lab[0]
        tone = self._curved(srgb_of_light(before**3))
        if means is not None:
            mean = means(tone)
            within = np.clip(mean, 0, 1)
            # The extremes have no room for more: black and white stay.
            amount = tone.dtype.type(self.adjustment.local_contrast / 100)
            tone = tone + amount * 4 * within * (1 - within) * (tone - mean)
        lab[0] = np.cbrt(light_of_srgb(tone))
        if len(lab) == 3:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(before > 0, lab[0] / before, before.dtype.type(1))
            ratio = np.clip(ratio, 0, before.dtype.type(MOST_CHROMA))
            lab[1:] = [plane * ratio for plane in lab[1:]]

    def _within_type(self, light: Pixels, dtype: np.dtype[Any]) -> Pixels:
        if light.shape[2] == 1 or dtype.kind not in "iu":
            return light
        low, high = (self._light(each) for each in self.luma_model.limits(dtype))
        beyond = ((light < low) | (light > high)).any(axis=2)
        if beyond.any():
            luma = self.luma_model.luma_of(light)[beyond]
            still = np.zeros_like(luma)
            light[beyond] += within_limits(light[beyond], luma, still, low, high)
        return light


def _times(matrix: Any, planes: list[Plane]) -> list[Plane]:
    """Return the product of a (3, 3) matrix and three planes."""
    # Element by element: a matrix product rounds differently for boxes of another shape.
    kind = planes[0].dtype.type
    return [
        sum((kind(row[at]) * planes[at] for at in (1, 2)), kind(row[0]) * planes[0])
        for row in matrix
    ]


def _light_of_lab(lab: list[Plane]) -> Pixels:
    if len(lab) == 1:
        return lab[0][..., None] ** 3
    cones = [plane**3 for plane in _times(_CONES_OF_LAB, lab)]
    return np.stack(_times(_RGB_OF_LMS, cones), axis=-1)


class LocalMeans:
    """Means of tones around each pixel that keep edges, for one level of an image.

    The guided filter of the tones by themselves, on a grid of cells that all boxes share: sums of
    whole numbers, so that they do not depend on how the image is cut. `extent` are the pixels that
    count; `longest` is the longer side of the image, both in pixels of the level.

    Source: He, Sun, Tang, IEEE TPAMI 35 (2013) 1397; He and Sun, arXiv:1505.00996 (2015).
    """

    def __init__(self, extent: Region, longest: int) -> None:
        self.side = 1 << max(0, round(float(np.log2(max(longest, 1) / CELLS))))
        self.extent = extent

    def around(self, region: Region) -> Region:
        """Return the pixels on which the means of `region` depend, whole cells but at the edges."""
        margin = (MARGIN + 1) * self.side
        return region.expand(margin).align(self.side).intersect(self.extent)

    def means(
        self,
        region: Region,
        pieces: list[Region],
        read: Callable[[Region], tuple[Plane, npt.NDArray[np.bool_]]],
    ) -> Callable[[Region], Means]:
        """Return what gives, for a part of `region`, the `Means` of its tones, by reading `around` it in `pieces`."""
        grid = self._cells_of(self.around(region))
        sums = np.zeros((3, *grid.shape))
        for piece in pieces:
            # The tones of a box are read with which pixels of it count.
            tones, counts = read(piece)
            counts &= np.isfinite(tones)
            steps = np.where(counts, np.rint(np.clip(tones, 0, 1) * STEPS), 0).astype(np.int64)
            cells = self._cells_of(piece)
            for total, values in zip(sums, (counts, steps, steps * steps), strict=True):
                total[cells.within(grid)] += self._summed(piece, cells, values)
        slope, offset = _guided(*sums)

        def of(part: Region) -> Means:
            factor = self._spread(slope, part, grid)
            constant = self._spread(offset, part, grid)
            return lambda tones: factor * tones + constant

        return of

    def _cells_of(self, box: Region) -> Region:
        aligned = box.align(self.side)
        return Region(*(edge // self.side for edge in aligned))

    def _summed(self, piece: Region, cells: Region, values: Plane) -> Plane:
        rows = np.maximum(np.arange(cells.y0, cells.y1) * self.side - piece.y0, 0)
        columns = np.maximum(np.arange(cells.x0, cells.x1) * self.side - piece.x0, 0)
        wide = values.astype(np.int64)
        return np.add.reduceat(np.add.reduceat(wide, rows, axis=0), columns, axis=1)

    def _spread(self, cells: Plane, part: Region, grid: Region) -> Plane:
        """Return (h, w) of (rows, columns) values of cells, interpolated between their centres."""
        spread = cells
        for axis, (start, stop, first) in enumerate(
            ((part.y0, part.y1, grid.y0), (part.x0, part.x1, grid.x0))
        ):
            at = (np.arange(start, stop) + 0.5) / self.side - 0.5 - first
            at = np.clip(at, 0, cells.shape[axis] - 1)
            before = np.minimum(at.astype(int), max(cells.shape[axis] - 2, 0))
            share = (at - before).astype(np.float32)
            share = share[:, None] if axis == 0 else share[None]
            after = np.minimum(before + 1, cells.shape[axis] - 1)
            spread = spread.take(before, axis) * (1 - share) + spread.take(after, axis) * share
        return spread


STEPS = 1 << 15
"""Whole numbers that tones become for exact sums."""


def _guided(count: Plane, total: Plane, squares: Plane) -> tuple[Plane, Plane]:
    """Return slope and offset of the guided filter, from sums of cells."""
    count, total, squares = (_window(each) for each in (count, total, squares))
    known = count > 0
    some = np.where(known, count, 1)
    mean = total / some / STEPS
    variance = np.maximum(squares / some / STEPS**2 - mean * mean, 0)
    slope = np.where(known, variance / (variance + EDGE), 0)
    offset = np.where(known, (1 - slope) * mean, 0)
    number = np.maximum(_window(known.astype(np.float64)), 1)
    slopes, offsets = (_window(each) / number for each in (slope, offset))
    return slopes.astype(np.float32), offsets.astype(np.float32)


def _window(cells: Plane) -> Plane:
    """Return sums over windows of cells, each added up in the same order wherever it lies."""
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (AROUND, AROUND)
        wide = np.pad(cells, width)
        length = cells.shape[axis]
        cells = np.zeros_like(cells)
        for start in range(2 * AROUND + 1):
            cells += wide[start : start + length] if axis == 0 else wide[:, start : start + length]
    return cells
