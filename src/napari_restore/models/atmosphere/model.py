"""Atmosphere model: maps from the overview, then a pixelwise inversion."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context, overview_factor
from napari_restore.models._model import RestorationModel, Statistics, ToModel, one_shot_statistics
from napari_restore.models._spectral import DEADBAND
from napari_restore.models.atmosphere.cells import (
    Cells,
    cells_of,
    coarser,
    halved,
    light_of,
    total,
    widened,
)
from napari_restore.models.atmosphere.inversion import (
    CURVE,
    DARKEST,
    RATIOS,
    THICKEST,
    inverted,
    optical_depth,
)
from napari_restore.models.atmosphere.network import STRIDE, AtmosphereNetwork, Estimate, ensembled
from napari_restore.models.atmosphere.restraint import (
    colours_of,
    darkening,
    depth_by_strips,
    guarded_green,
    keep_white,
    restrained,
    sure_colours,
    thinned_maps,
)
from napari_restore.models.atmosphere.small import Small, small, small_factor, small_overview
from napari_restore.models.atmosphere.spline import BilinearSampler, guided, smooth
from napari_restore.models.classical.base import airlight_of, soft_gate

BRIGHTNESS = 0.45
"""Mean luminance of the network's input, reached by one factor for all bands."""
STRIP = 131072
"""Pixels that are inverted at a time: more do not stay in the processor's cache, fewer make two
workers wait for each other."""


class Atmosphere(RestorationModel):
    """x = J·t + A·(1 − t) with one airlight per image and a smooth t, estimated together.

    The network takes the overview, scaled to one brightness, so that its input does not depend on
    the share of the value range that a scene fills. It estimates the logit of the optical depth on
    cells of 8 of its pixels, as an offset and a slope over luminance, which are made to follow edges
    (`guided`), and one airlight A, one exponent g (τ at λ is τ · (550 / λ)^g) and whether
    haze was added in linear light or in display values. The inversion of a pixel depends on that
    pixel alone.

    Statistics: ``cells`` (1, 3, gh, gw) offset and slope per network cell, along edges, and how much of its hue
    is kept, ``maps`` (1, 3, h, w) the same per overview pixel, ``step`` () level-0
    pixels per map pixel, ``presence`` () and the ``restraint`` () that is in it, ``brightness`` ()
    the factor above, ``airlight`` (3,) with the factor ``green`` () in it and ``airlight_all``
    (bands,) in model range, ``hue`` (3,), ``hue_spread`` () and
    ``unsure`` (), ``exponent`` (), ``display`` (). Those that change no pixel: ``darkening`` (2,) of the
    restored overview, ``transmission`` () the mean of the haze at 550 nm, ``kept`` () the share of cells that keep
    their hue, ``doubt`` () the weight of the dark channel.
    """

    derived = ("maps",)

    def __init__(self, card: ModelCard, width: int = 24, looks: int = 2) -> None:
        super().__init__(card)
        self.network = AtmosphereNetwork(width, looks)
        self.t0 = float(card.values.get("t0", 0.1))
        self.deadband = float(card.values.get("deadband", DEADBAND))
        self.amount = float(card.values.get("amount", 1.0))
        self.ensemble = int(card.values.get("ensemble", 1))
        self.above = ABOVE_GROUND if card.scenes == ("aerial",) else ABOVE

    def haze_cell(self, height: int, width: int) -> int:
        factor = overview_factor(height, width)
        return STRIDE * factor * small_factor(height, width, factor)[0]

    @torch.no_grad()
    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        device = self.network.first.stem.weight.device
        overview, thinned, valid = small_overview(context, to_model, bands, device)
        shown = _network_input(overview)
        # Pixels need not be in memory beside the network's activations.
        del overview
        statistics = self._statistics_from(shown)
        statistics["step"] = torch.tensor(float(context.factor))
        statistics["green"] = guarded_green(thinned, valid, statistics, self.deadband)
        statistics["airlight"] = _with_green(statistics["airlight"], statistics["green"])
        statistics["airlight_all"] = _airlight_of_all(
            context, to_model, bands, statistics["airlight"]
        )
        seen = statistics["presence"]
        statistics["presence"] = restrained(thinned, valid, statistics, self.deadband)
        statistics |= colours_of(thinned, valid, statistics, self.deadband)
        statistics["restraint"] = statistics["presence"] / seen.clamp(min=1e-6)
        depths = torch.cat([depth for _, depth in depth_by_strips(thinned, statistics)], 2)
        statistics["transmission"] = torch.exp(-depths)[valid > 0].mean().nan_to_num(1)
        restored, _ = self.pixelwise(thinned, thinned_maps(statistics), statistics)
        statistics["darkening"] = darkening(thinned, restored, valid)
        return statistics

    def derive(self, statistics: Statistics, context: Context) -> Statistics:
        factor, shape = small_factor(context.height, context.width, context.factor)
        return {**statistics, "maps": smooth(statistics["cells"], STRIDE * factor, shape)}

    def follow(self, overview: Tensor, valid: Tensor, statistics: Statistics) -> Statistics:
        found = self._statistics_from(_network_input(small(overview, valid)))
        # Nothing is computed from them any more, so that they have no gradient.
        for name in ("cells", "kept", "doubt"):
            del found[name]
        # Both are found by bisection, so they have no gradient.
        found["presence"] = found["presence"] * statistics["restraint"]
        found["airlight"] = _with_green(found["airlight"], statistics["green"])
        return {**statistics, **found}

    def _statistics_from(self, one: _NetworkInput) -> dict[str, Tensor]:
        """Return the statistics of one picture, before the restraint."""
        seen = ensembled(self.network, one.cells, one.reduced, self.ensemble)
        airlight = capped(seen.airlight, one.cells, self.above)
        offset, airlight, doubt = with_dark_channel(seen, airlight, one.cells)
        height, width = offset.shape[2:]
        hue, light = (kept[:, :, :height, :width] for kept in kept_of(one.cells))
        offset = with_light(replace(seen, offset=offset), airlight, one.cells, light)
        cells = guided(offset, seen.slope, light_of(one.cells, offset.shape[2:]))
        cells = torch.cat([cells, hue], 1)
        return {
            "cells": cells,
            "maps": smooth(cells, STRIDE * one.factor, one.shape),
            "presence": seen.presence[0],
            "brightness": one.brightness[0],
            "airlight": airlight[0] / one.brightness[0],
            "exponent": seen.exponent[0],
            "display": seen.display[0],
            "kept": hue.mean() / (one.cells.share > 0.5).to(hue.dtype).mean().clamp(min=1e-6),
            "doubt": doubt,
        }

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if statistics is None and self.training:
            return self.invert(x, self.observe(x, valid))
        own = [self._statistics_of(x, n, statistics, valid) for n in range(len(x))]
        y = torch.empty_like(x)
        transmission = torch.empty_like(x[:, :1])
        for n, known in enumerate(own):
            self._restore(x[n : n + 1], known, y[n : n + 1], transmission[n : n + 1])
        airlight = torch.stack([known["airlight"] for known in own])[:, :, None, None]
        return y, {"transmission": transmission, "airlight": airlight.expand(x.shape)}

    def _statistics_of(
        self, x: Tensor, n: int, statistics: Statistics | None, valid: Tensor | None
    ) -> Statistics:
        """Return the statistics of image `n` of the batch, by the image itself if none are given."""
        if statistics is None:
            seen = None if valid is None else valid[n : n + 1]
            own = dict(one_shot_statistics(self, x[n : n + 1], seen))
        else:
            own = dict(statistics)
            if "origin" in own:
                own["origin"] = own["origin"][n : n + 1]
        # The scale is a float64, which not every device has; it stays on the processor.
        return {
            name: value if name == "scale" else value.to(x.device) for name, value in own.items()
        }

    def _restore(self, x: Tensor, statistics: Statistics, y: Tensor, transmission: Tensor) -> None:
        """Restore one image of a batch into `y` and `transmission`, in strips that fit a cache."""
        y0, x0 = statistics["origin"][0].tolist() if "origin" in statistics else (0, 0)
        scale = float(statistics["scale"]) if "scale" in statistics else 1.0
        height, width = x.shape[2:]
        maps = BilinearSampler(
            statistics["maps"], float(statistics["step"]), (y0, x0), scale, (height, width)
        )
        rows = max(1, STRIP // width)
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            made = self.pixelwise(x[:, :, top:bottom], maps.rows(top, bottom), statistics)
            y[:, :, top:bottom], transmission[:, :, top:bottom] = made

    def pixelwise(self, x: Tensor, haze: Tensor, statistics: Statistics) -> tuple[Tensor, Tensor]:
        """Return the restored image (1, 3, h, w) and its transmission (1, 1, h, w).

        `haze` (1, 3, h, w) are offset and slope of the pixels and how much their hue is kept, `statistics` the
        numbers of the image.
        """
        airlight = statistics["airlight"][None, :, None, None]
        offset, slope, hue = torch.split(haze, 1, 1)
        depth = optical_depth(x, offset, slope, statistics).mul_(self.amount)
        depth = depth.clamp_(max=-math.log(self.t0))
        found, transmission = inverted(x, depth, airlight, statistics, self.deadband)
        sure = sure_colours(found, transmission, statistics, self.deadband)
        return keep_white(x, sure, hue), transmission

    def gate(self, transmission: Tensor) -> Tensor:
        """Return how far pixels may be changed, 0 to 1: not at all where there is no haze."""
        return soft_gate(1 - transmission, self.deadband)

    def observe(self, x: Tensor, valid: Tensor | None = None) -> Statistics:
        """Return statistics of N whole images (N, 3, h, w) at once, with gradients, for training."""
        # As those of `prepare`, with the images in front: ``maps`` (N, 2, h, w) and numbers (N, 1
        # or 3, 1, 1). No restraint is applied: too much dehazing shows in the loss.
        known = x.new_ones(x[:, :1].shape) if valid is None else valid.to(x.dtype)
        whole = _network_input(small(x, known))
        seen, brightness = self.network(whole.cells, whole.reduced), whole.brightness
        light = light_of(whole.cells, seen.offset.shape[2:])
        cells = guided(seen.offset, seen.slope, light)
        return {
            "maps": smooth(cells, STRIDE * whole.factor, whole.shape),
            "presence": _wide(seen.presence),
            "brightness": _wide(brightness),
            "airlight": (seen.airlight / brightness[:, None])[:, :, None, None],
            "exponent": _wide(seen.exponent),
            "display": _wide(seen.display),
        }

    def invert(
        self,
        x: Tensor,
        statistics: Statistics,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return restored `rows` and `columns` of the images passed to `observe`, and their maps."""
        # An inversion with gradients costs more than the network; a part of the pixels trains as
        # well.
        offset, slope = torch.split(statistics["maps"][..., rows, columns], 1, 1)
        x = x[..., rows, columns]
        depth = optical_depth(x, offset, slope, statistics)
        airlight = statistics["airlight"]
        y, transmission = inverted(x, depth, airlight, statistics, self.deadband)
        return y, {"transmission": transmission, "airlight": airlight.expand(x.shape)}


BANDS = 3


class BehindAtmosphere(RestorationModel):
    """A network behind an atmosphere network, whose statistics it takes; None: it is alone."""

    atmosphere: Atmosphere | None
    derived = Atmosphere.derived

    def haze_cell(self, height: int, width: int) -> int:
        return 0 if self.atmosphere is None else self.atmosphere.haze_cell(height, width)

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        return {} if self.atmosphere is None else self.atmosphere.prepare(context, to_model, bands)

    def derive(self, statistics: Statistics, context: Context) -> Statistics:
        return (
            statistics if self.atmosphere is None else self.atmosphere.derive(statistics, context)
        )

    @property
    def can_follow(self) -> bool:
        return self.atmosphere is not None

    def follow(self, overview: Tensor, valid: Tensor, statistics: Statistics) -> Statistics:
        assert self.atmosphere is not None
        return self.atmosphere.follow(overview, valid, statistics)


class _NetworkInput(NamedTuple):
    """Input of the network for N pictures."""

    cells: Cells
    brightness: Tensor
    """(N,) the factor applied to them."""
    reduced: tuple[int, int]
    """(h, w) of the pictures …"""
    factor: int
    """… each pixel of which was this many along a side …"""
    shape: tuple[int, int]
    """… of an image of this shape."""


def _network_input(pictures: Small) -> _NetworkInput:
    """Return the cells of small pictures, scaled to one brightness."""
    picture, valid = pictures.picture, pictures.valid
    # One value far out of range must not darken all others.
    seen = picture.mean(1, keepdim=True).clamp(0, 4) * valid
    mean = (total(seen) / total(valid).clamp(min=1))[:, 0]
    brightness = BRIGHTNESS / mean.clamp(min=1e-4)
    cells = cells_of(picture, valid, brightness)
    reduced = picture.shape[2], picture.shape[3]
    return _NetworkInput(cells, brightness, reduced, pictures.factor, pictures.shape)


def _with_green(airlight: Tensor, factor: Tensor) -> Tensor:
    """Return the airlight (3,) with its green times `factor` ()."""
    return torch.stack([airlight[0], airlight[1] * factor, airlight[2]])


def _airlight_of_all(
    context: Context, to_model: ToModel, bands: tuple[int, ...], airlight: Tensor
) -> Tensor:
    """Return (bands of the image,): bands not in the network keep the classical ratio to it."""
    classical = torch.from_numpy(airlight_of(context, to_model, tuple(range(context.bands))))
    classical = classical.to(airlight.device)
    everywhere = classical * (airlight.mean() / classical[list(bands)].mean().clamp(min=1e-6))
    everywhere[list(bands)] = airlight
    return everywhere


def _wide(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def make(card: ModelCard, width: int = 24, looks: int = 2) -> Atmosphere:
    """Return the network of a card, with random weights."""
    return Atmosphere(card, width, looks)


BLOCK = 4
"""Network cells along a side of a block: 16 pixels of the picture that the network sees."""
BRIGHTEST = 0.01
"""Share of the blocks that are the brightest light of a picture."""
ABOVE = 1.15
"""Largest ratio of the airlight to that light."""
ABOVE_GROUND = 1.35
"""The same for pictures from above alone, where the airlight of thin even haze is indeed brighter than all."""
DOUBTED = (1.04, 1.17)
"""Ratio of the network's airlight to the limited one from which the network is doubted, and is as much as it
ever is. Haze it was trained on has at most 0.93 as a mean, opaque fog 1.13 to 1.26."""
SEEN = (0.3, 0.6)
"""Presence of haze from which that holds, and holds as much as it ever does: a clear scene stays as it is."""
DARK_CHANNEL = 0.7
"""Weight of the dark channel prior then; …"""
OMEGA = 0.85
"""… share of the haze that it removes, …"""
REACH = 8
"""… cells around each in which it searches the darkest value, …"""
HAZIEST = 0.001
"""… and share of the cells, haziest first, that its airlight is the mean of, at least …"""
FLOOR = 0.9
"""… this share of what the brightest ones have."""
SKY_SHARE = 0.05
"""Share of the blocks whose mean luminance others are compared with: more than a sun."""
EVEN = (0.008, 0.02)
"""Relative deviation around a cell, but for a gradient, up to which it is even, and from which it is not."""
GRADIENT = 0.75
"""Variance of 3 × 3 cells under a gradient of one a cell: 2/3 between them, 1/12 within each."""
SKY_LIGHT = (0.4, 0.6)
"""Ratio to the brightest from which an even cell begins to be sky, and is, if what is above it is too, …"""
ACROSS = 8
"""… as the mean over so many cells to either side, so that a cloud is no skyline, …"""
OPEN = (0.3, 0.7)
"""… from the lower of these on, …"""
SKY_TOP = (0.3, 0.5)
"""… and the share of the upper edge that is sky, less that of the lower one, from which a picture begins to have
a sky, and has one. Haze over ground is in either."""
RIM = 4
"""Cells beside a sky that keep their hue with it: mist at a skyline would get another one."""
OPAQUE = (0.75, 0.95)
"""Ratio to the brightest from which an even cell begins to keep its hue, and does, and its light, too, …"""
CLOUDED = (0.5, 0.7)
"""… as a cloud or snow, where half of the picture has at most the first of these ratios; under fog it has the second."""
KEPT = 0.93
"""Share of its light that a cell of sky or cloud keeps at least; it becomes no brighter than 1 / `KEPT` of it.
Partly sky, it keeps less."""


def capped(airlight: Tensor, cells: Cells, above: float) -> Tensor:
    """Return the airlight (1, 3), at most `above` times the brightest light of the cells."""
    # Under opaque fog, which is the brightest of its picture, an airlight far above it would mean
    # that the fog is a thin veil before something dark.
    light = _light_of_blocks(cells)
    if len(light) == 0:
        return airlight
    most = above * light.topk(_count(light, BRIGHTEST)).values.mean()
    return airlight * (most / airlight.mean().clamp(min=1e-6)).clamp(max=1)


def _light_of_blocks(cells: Cells) -> Tensor:
    """Return the mean luminance of every block that is seen, (n,)."""
    share, colour = coarser(cells, BLOCK)
    return colour.mean(1)[share[:, 0] > 0.5]


def with_dark_channel(
    estimate: Estimate, airlight: Tensor, cells: Cells
) -> tuple[Tensor, Tensor, Tensor]:
    """Return offset (1, 1, h, w) and airlight (1, 3), drawn to the dark channel prior, and its weight ()."""
    # An airlight far above the brightest light of the picture contradicts it: the network has not
    # learned such fog, and two estimators that err differently are better than either (K. He, J.
    # Sun, X. Tang, CVPR 2009). The airlight given is the one that `capped` has limited. The
    # luminance of each cell becomes the mean of both results.
    ratio = estimate.airlight.mean() / airlight.mean().clamp(min=1e-6)
    weight = DARK_CHANNEL * _between(ratio, *DOUBTED) * _between(estimate.presence, *SEEN).mean()
    height, width = estimate.offset.shape[2:]
    share, colour, dark = (part[:, :, :height, :width] for part in halved(cells))
    seen = share[0, 0] > 0.5
    if not weight > 0 or not seen.any():
        return estimate.offset, airlight, torch.zeros_like(weight)
    numbers, depth = _depth_of(colour, estimate)
    own, _ = inverted(colour, depth, airlight[:, :, None, None], numbers, 0.0)
    haze = -widened(-dark.amin(1, keepdim=True), REACH)[0, 0]
    haziest = haze[seen].topk(_count(haze[seen], HAZIEST)).indices
    brightest = torch.quantile(cells.colour[0][:, cells.share[0, 0] > 0.5], 1 - HAZIEST, dim=1)
    veil = torch.maximum(colour[0][:, seen][:, haziest].mean(1), FLOOR * brightest)[None]
    relative = (dark / veil[:, :, None, None]).amin(1, keepdim=True)
    transmission = 1 - OMEGA * (-widened(-relative, REACH)).clamp(0, 1)
    prior = (colour - veil[:, :, None, None]) / transmission + veil[:, :, None, None]
    wanted = torch.lerp(own, prior, weight).mean(1, keepdim=True)
    airlight = airlight.mean() * torch.lerp(airlight / airlight.mean(), veil / veil.mean(), weight)
    luminance = colour.mean(1, keepdim=True)
    deeper = _depth_between(luminance, wanted, airlight.mean(1, keepdim=True), estimate)
    return estimate.offset + _logit_shift(depth, deeper, numbers["presence"]), airlight, weight


def with_light(estimate: Estimate, airlight: Tensor, cells: Cells, kept: Tensor) -> Tensor:
    """Return the offset (1, 1, h, w), lowered where what keeps its light, as far as `kept` says, becomes dark."""
    height, width = estimate.offset.shape[2:]
    if not kept.any():
        return estimate.offset
    colour = halved(cells)[1][:, :, :height, :width]
    numbers, depth = _depth_of(colour, estimate)
    deepest = _depth_that_keeps(colour, estimate, airlight)
    lowered = depth - kept * (depth - deepest).clamp(min=0)
    return estimate.offset + _logit_shift(depth, lowered, numbers["presence"])


def _depth_of(colour: Tensor, estimate: Estimate) -> tuple[dict[str, Tensor], Tensor]:
    """Return the numbers of `estimate` as statistics of cells (1, 3, h, w), and their optical depth."""
    presence = _wide(estimate.presence.clamp(min=1e-6))
    numbers = {
        "brightness": torch.ones_like(presence),
        "presence": presence,
        "exponent": _wide(estimate.exponent),
        "display": _wide(estimate.display),
    }
    return numbers, optical_depth(colour, estimate.offset, estimate.slope, numbers)


def _depth_that_keeps(colour: Tensor, estimate: Estimate, airlight: Tensor) -> Tensor:
    """Return the optical depth (1, 1, h, w) whose removal makes a colour (1, 3, h, w) darker or brighter by `KEPT`."""
    change = torch.where(colour < airlight[:, :, None, None], KEPT, 1 / KEPT)
    depth = _depth_between(colour, change * colour.clamp(min=DARKEST), airlight, estimate)
    ratios = torch.tensor(RATIOS, device=colour.device)[:, None, None]
    return (depth / ratios ** _wide(estimate.exponent)).amin(1, keepdim=True)


def _depth_between(before: Tensor, after: Tensor, airlight: Tensor, estimate: Estimate) -> Tensor:
    """Return the optical depth whose removal makes values `after` of `before`, each (1, C, h, w)."""
    curve = CURVE ** (1 - _wide(estimate.display))
    veil = airlight[:, :, None, None] ** curve
    below = veil - before.clamp(min=DARKEST) ** curve
    # What is brighter than the airlight becomes brighter still.
    gain = (veil - after.clamp(min=DARKEST) ** curve) * below.sign() / below.abs().clamp(min=1e-6)
    return torch.log(gain.clamp(min=1))


def _logit_shift(before: Tensor, after: Tensor, presence: Tensor) -> Tensor:
    """Return what is added to the logit of a depth `before` for that of `after`; 0 where they are equal."""
    shares = [(depth / (THICKEST * presence)).clamp(1e-4, 1 - 1e-4) for depth in (after, before)]
    logits = [torch.log(share / (1 - share)) for share in shares]
    return logits[0] - logits[1]


def kept_of(cells: Cells) -> tuple[Tensor, Tensor]:
    """Return how much each cell of twice the side keeps its hue, and its light; (1, 1, h, w), 0 to 1."""
    # A sky has no structure and reaches the upper edge. How far it is, and so how much haze is
    # before it, cannot be seen; nor what is behind a cloud. There the airlight's tint, subtracted,
    # would leave another hue, and noise and steps of the file would be amplified for nothing.
    share, colour, _ = halved(cells)
    seen = (share > 0.5).to(colour.dtype)
    light = _light_of_blocks(cells)
    if len(light) == 0:
        return torch.zeros_like(share), torch.zeros_like(share)
    luminance = colour.mean(1, keepdim=True)
    relative = luminance / light.topk(_count(light, SKY_SHARE)).values.mean().clamp(min=1e-6)
    fine = cells.colour.mean(1, keepdim=True)
    number = _around(seen).clamp(min=1e-6)
    mean = _around(luminance * seen) / number
    square = _around(avg_pool2d(fine**2 + cells.spread**2, 2) * seen) / number
    slopes = sum(_slope(luminance, seen, along) ** 2 for along in (2, 3))
    varied = square - mean**2 - GRADIENT * slopes
    deviation = varied.clamp(min=1e-10).sqrt() / mean.clamp(min=1e-6)
    even = (1 - _between(deviation, *EVEN)) * seen
    bright = _between(relative, *SKY_LIGHT) * seen
    sky = even * bright
    rows = seen.sum(3)[0, 0].nonzero().flatten()
    at_edges = [sky[:, :, row].sum() / seen[:, :, row].sum() for row in rows[[0, -1]].tolist()]
    # A border without data hides no sky.
    across = pad(torch.where(seen > 0, sky, 1), (ACROSS, ACROSS, 0, 0), "replicate")
    above = torch.cummin(avg_pool2d(across, (1, 2 * ACROSS + 1), 1), 2).values
    # Cells beside a skyline are sky, too.
    sky = torch.minimum(bright, widened(sky, 1)) * _between(above, *OPEN)
    sky = sky * _between(at_edges[0] - at_edges[1], *SKY_TOP)
    opaque = even * _between(relative, *OPAQUE)
    cloud = opaque * (1 - _between(relative[seen > 0].median(), *CLOUDED))
    return torch.maximum(widened(sky, RIM), opaque), torch.maximum(sky, cloud)


def _slope(plane: Tensor, seen: Tensor, along: int) -> Tensor:
    """Return half the difference of the neighbours of each cell; 0 at an edge, and where one is not seen."""
    values, known = (each.unfold(along, 3, 1) for each in (plane, seen))
    slope = (values[..., 2] - values[..., 0]) / 2 * known[..., 2] * known[..., 0]
    return pad(slope, (0, 0, 1, 1) if along == 2 else (1, 1, 0, 0))


def _around(plane: Tensor) -> Tensor:
    return avg_pool2d(plane, 3, stride=1, padding=1)


def _between(values: Tensor, low: float, high: float) -> Tensor:
    """Return 0 up to `low`, 1 from `high`."""
    return ((values - low) / (high - low)).clamp(0, 1)


def _count(values: Tensor, share: float) -> int:
    """Return how many of the values are that share of them, at least one."""
    return -(-len(values) // round(1 / share))
