"""Limits on the removal of haze: nothing becomes black, no colour appears that is not in the source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import EllipsisType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from napari_restore.models._layers import LUMA, is_exporting, light_of_display
from napari_restore.models.atmosphere.inversion import DARKEST, inverted, optical_depth
from napari_restore.models.classical.base import soft_gate

Rows: TypeAlias = tuple[EllipsisType, "slice[Any, Any, Any]", "slice[Any, Any, Any]"]

LOST = 0.01
"""Share of an image's pixels that may become black."""
BLACK = 0.002
"""Value, where the picture's mean is 0.45, below which a band carries no information …"""
DARK = 0.01
"""… unless it was no brighter than this before."""
SIDE = 512
"""Pixels of the longer side that are used."""
HALVINGS = 6
ROWS = 128
"""Rows of those pixels that are processed together."""


def step_of(shape: tuple[int, int]) -> int:
    """Return the step between the used pixels of an overview (h, w)."""
    return -(-max(shape) // SIDE)


def thinned_maps(statistics: Mapping[str, Tensor]) -> Tensor:
    """Return the maps of an overview that is thinned by `step_of`."""
    maps = statistics["maps"]
    step = step_of((maps.shape[2], maps.shape[3]))
    return maps[..., ::step, ::step]


def depth_by_strips(x: Tensor, statistics: Mapping[str, Tensor]) -> Iterator[tuple[Rows, Tensor]]:
    """Yield each `ROWS` rows of the overview `x`, thinned by `step_of`, and their optical depth."""
    offset, slope, _ = torch.split(thinned_maps(statistics), 1, 1)
    for top in range(0, x.shape[2], ROWS):
        rows: Rows = (..., slice(top, top + ROWS), slice(None))
        yield rows, optical_depth(x[rows], offset[rows], slope[rows], statistics)


def restrained(
    x: Tensor, valid: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> Tensor:
    """Return the presence () of haze, as large as it may be for `LOST`.

    No scene is black where it was not: black in the result means that the haze was overestimated,
    most of all in scenes with an offset in all their values.

    Parameters
    ----------
    x
        (1, 3, h, w) the overview in model range, thinned by `step_of`.
    valid
        (1, 1, h, w) float, 0 or 1.
    statistics
        Those of the model, with ``maps`` of the whole overview.
    deadband
        As in `inverted`.
    """
    airlight = statistics["airlight"][None, :, None, None]
    bright = (x.amin(1, keepdim=True) * statistics["brightness"] > DARK) & (valid > 0)
    most = LOST * float(valid.sum())

    def loses(share: float) -> bool:
        scaled = {**statistics, "presence": statistics["presence"] * share}
        lost = 0.0
        for rows, depth in depth_by_strips(x, scaled):
            y, _ = inverted(x[rows], depth, airlight, scaled, deadband)
            black = y.amin(1, keepdim=True) * statistics["brightness"] < BLACK
            lost += float((black & bright[rows]).sum())
        return lost > most

    if not loses(1.0):
        return statistics["presence"]
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if loses(middle) else (middle, high)
    return statistics["presence"] * low


TOLERANCE = 0.02
"""Largest shift of the mean colour towards magenta, as a share of its brightness."""
APART = 1.15
"""Ratio of red over blue, or blue over red, from which a colour is red or blue rather than
magenta."""
WHITE = 0.96
"""Value in model range from which a pixel counts as clipped when its darkest band reaches it …"""
SOFT = 0.03
"""… fully from this much above."""


def guarded_green(
    x: Tensor, valid: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> Tensor:
    """Return the factor () at most 1 on the airlight's green that prevents a magenta cast.

    An airlight that is greener than the haze turns what lies behind into magenta, the more the
    thicker the haze is, and no scene is magenta on average. So the mean colour of the dehazed
    image, weighted by the haze, may not become more magenta than it was in the source, or than
    grey, by more than `TOLERANCE`. Green is lowered as far as needed, at most to the tint of that
    mean colour in the source. It is computed once per image, so tiles and zoom do not matter.

    Parameters
    ----------
    x
        (1, 3, h, w) red, green, blue: the overview in model range, thinned by `step_of`.
    valid
        (1, 1, h, w) float, 0 or 1.
    statistics
        Those of the model, with ``maps`` of the whole overview.
    deadband
        As in `inverted`.
    """
    red, green, blue = statistics["airlight"]

    def mean_colour(factor: Tensor | None) -> Tensor:
        """Return (3,) sum of the source or the restored image, weighted by the haze."""
        total = x.new_zeros(3)
        for rows, depth in depth_by_strips(x, statistics):
            haze = 1 - torch.exp(-depth)
            weight = torch.where(haze > deadband, haze * haze, 0) * valid[rows]
            strip = x[rows]
            if factor is not None:
                airlight = torch.stack([red, green * factor, blue])[None, :, None, None]
                strip, _ = inverted(strip, depth, airlight, statistics, deadband)
            total += (strip * weight).sum((0, 2, 3))
        return total

    none = torch.ones_like(green)
    source = mean_colour(None)
    if not source.sum() > 0:
        return none
    tint = magenta(source)
    # The green at which the airlight is as magenta as the hazy part of the source.
    most = (_both(red, blue) - tint * (red + blue) / 3) / (1 + tint / 3)
    lowest = most / green.clamp(min=1e-6)
    allowed = tint.clamp(min=0) + TOLERANCE
    if lowest >= 1 or magenta(mean_colour(none)) <= allowed:
        return none
    low: Tensor = lowest
    high = none
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if magenta(mean_colour(middle)) <= allowed else (low, middle)
    return low


UNSURE = (0.015, 0.12)
"""Standard deviation of an error of the airlight's colour, as a share of its brightness: the usual one, and
the largest that a picture may show."""
DRIFT = 0.06
"""Difference of the mean tint of dark parts behind thick haze from that where haze is thin, up to which
the airlight is believed."""
THICK = (0.7, 0.5)
"""Transmission below which pixels count for that, and count fully; …"""
DARK_PARTS = (0.5, 0.35)
"""… and their brightness, where the picture's mean is 0.45. A sky keeps its hue."""
SHADOWS = (0.3, 0.15)
"""The same of pixels that may not become magenta; below the first, colour lessens with brightness."""
SEEN = 0.01
"""Least share of an image that they must be, …"""
FEWER = 0.5
"""… and most as a share of the dark parts where haze is thin: else these tell little about them."""
THIN = (0.4, 0.8)
"""Transmission from which on pixels count for the colours of a scene, and count fully."""


def colours_of(
    x: Tensor, valid: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> dict[str, Tensor]:
    """Return ``hue`` (3,) and ``hue_spread`` () of the restored overview where haze is thin, ``unsure`` ().

    The tint is the mean of the bands less their mean, as a share of it; the spread is the standard
    deviation of pixels from the tint, in model range. The last one is that of an error of the airlight's
    colour. Parameters as in `guarded_green`.
    """
    airlight = statistics["airlight"][None, :, None, None]
    low, high = THIN

    def thin() -> Iterator[tuple[Tensor, Tensor]]:
        for rows, depth in depth_by_strips(x, statistics):
            y, transmission = inverted(x[rows], depth, airlight, statistics, deadband)
            weight = ((transmission - low) / (high - low)).clamp(1e-3, 1) ** 2
            yield keep_white(x[rows], y), weight * valid[rows]

    colour, number = x.new_zeros(3), x.new_zeros(())
    for y, weight in thin():
        colour += (y * weight).sum((0, 2, 3))
        number += weight.sum()
    tint = colour / colour.mean().clamp(min=1e-6) - 1
    square = x.new_zeros(())
    for y, weight in thin():
        apart = _chroma(y, tint)
        square += ((apart * apart).sum(1, keepdim=True) * weight).sum()
    known = {"hue": tint, "hue_spread": (square / number.clamp(min=1e-6)).sqrt()}
    return {**known, "unsure": _unsure(x, valid, {**statistics, **known}, deadband)}


def _unsure(x: Tensor, valid: Tensor, statistics: Mapping[str, Tensor], deadband: float) -> Tensor:
    """Return the least of `UNSURE` () for which dark parts behind thick haze have no tint of their own."""
    airlight = statistics["airlight"][None, :, None, None]
    # Nor may shadows behind haze become magenta, of which `guarded_green` sees little: bright parts
    # decide.
    least, most = (x.new_tensor(value) for value in UNSURE)
    parts, thin = [], 0.0
    for rows, depth in depth_by_strips(x, statistics):
        y, transmission = inverted(x[rows], depth, airlight, statistics, deadband)
        light = y.mean(1, keepdim=True) * statistics["brightness"]
        dark = _ramp(light, DARK_PARTS) * valid[rows]
        behind = soft_gate(1 - transmission, deadband) * _ramp(light, SHADOWS) * valid[rows]
        weight = _ramp(transmission, THICK) * dark
        thin += float((_ramp(transmission, THIN) * dark).sum())
        part = torch.cat([x[rows], y, transmission, behind, weight], 1)
        parts.append(part[0][:, (behind + weight)[0, 0] > 0])
    source, y, transmission, behind, weight = torch.split(
        torch.cat(parts, 1)[None, :, :, None], [3, 3, 1, 1, 1], 1
    )
    thick, enough = float(weight.sum()), SEEN * float(valid.sum())
    is_known = enough <= thick <= FEWER * thin
    is_seen = float(behind.sum()) >= enough
    allowed = magenta((source * behind).sum((0, 2, 3))).clamp(min=0) + TOLERANCE

    def drifts(unsure: Tensor) -> bool:
        sure = sure_colours(y, transmission, {**statistics, "unsure": unsure}, deadband)
        if is_seen and bool(magenta((sure * behind).sum((0, 2, 3))) > allowed):
            return True
        colour = (sure * weight).sum((0, 2, 3))
        apart = colour / colour.mean().clamp(min=1e-6) - 1 - statistics["hue"]
        return is_known and float((apart * apart).sum().sqrt()) > DRIFT

    if not drifts(least):
        return least
    if drifts(most):
        return most
    for _ in range(HALVINGS):
        middle = (least * most).sqrt()
        least, most = (middle, most) if drifts(middle) else (least, middle)
    return most


def _ramp(values: Tensor, ends: tuple[float, float]) -> Tensor:
    """Return 0 to 1 as values go from the first end to the second."""
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)


def sure_colours(
    y: Tensor, transmission: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> Tensor:
    """Return the restored `y` (N, 3, h, w) with the colours that the haze has left evidence of."""
    # Behind haze of transmission t an error e of the airlight is one of e · (1/t − 1) in the
    # result: thick fog turns brown or magenta. The scene's colours, as they are where haze is thin,
    # are the prior; the mean of the posterior of two normal distributions is what is returned.
    # Brightness stays, and so does what is within the deadband, bit for bit.
    gate = soft_gate(1 - transmission, deadband)
    light = y.mean(1, keepdim=True) * statistics["brightness"]
    unsure = torch.lerp(y.new_tensor(UNSURE[0]), statistics["unsure"], _ramp(light, DARK_PARTS))
    error = unsure * statistics["airlight"].mean() * gate * (1 / transmission - 1)
    variance = error * error
    # What is dark has little colour.
    spread = statistics["hue_spread"] * (light / SHADOWS[0]).clamp(0, 1)
    doubt = variance / (variance + spread * spread).clamp(min=1e-12)
    return torch.addcmul(y, doubt, _chroma(y, statistics["hue"]), value=-1)


def _chroma(y: Tensor, tint: Tensor) -> Tensor:
    """Return how far bands (N, 3, h, w) are from a grey of their mean with that tint."""
    return y - y.mean(1, keepdim=True) * (1 + tint)[:, None, None]


def magenta(colour: Tensor) -> Tensor:
    """Return the excess of red and blue over green, relative to the mean, of a colour (3,)."""
    # The difference of the two does not count: brick and sky are not magenta.
    red, green, blue = colour
    share: Tensor = (_both(red, blue) - green) / colour.mean().clamp(min=1e-6)
    return share


def _both(red: Tensor, blue: Tensor) -> Tensor:
    return (torch.minimum(red, APART * blue) + torch.minimum(blue, APART * red)) / 2


def keep_white(x: Tensor, y: Tensor, hue: Tensor | float = 0.0) -> Tensor:
    """Return the restored `y` with the band ratios of `x` where `x` is clipped to white, or as `hue` says, 0 to 1."""
    # A clipped pixel no longer has the airlight's tint, so subtracting it leaves the opposite
    # colour; its brightness alone is restored.
    clipped = ((x.amin(1, keepdim=True) - WHITE) / SOFT).clamp(min=hue).clamp(max=1)
    if not (is_exporting() or clipped.any()):
        return y
    in_ratio = x * (y.mean(1, keepdim=True) / x.mean(1, keepdim=True).clamp(min=DARKEST))
    return torch.lerp(y, in_ratio, clipped)


LEAST = 1e-4
"""Medians of light are limited to this and 1 less this."""


def darkening(x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """Return by how many EV (2,) the restored `y` is darker than `x`; below 0 it is brighter.

    That is the difference in log2 of the odds of the median luminance, which an exposure adds to every
    tone. The first number is that of values that are linear light, the second that of display values.
    Parameters as in `guarded_green`.
    """

    def odds(picture: Tensor) -> Tensor:
        seen = torch.cat([picture.clamp(0, 1), light_of_display(picture)])[..., valid[0, 0] > 0]
        light = (seen * seen.new_tensor(LUMA)[:, None]).sum(1)
        return light.median(1).values.clamp(LEAST, 1 - LEAST).logit() / math.log(2)

    return odds(x) - odds(y) if valid.any() else x.new_zeros(2)
