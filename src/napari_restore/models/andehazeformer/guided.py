"""Base of the network: what it knows of an image's haze from the overview."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel, placed_at
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.andehazeformer.blocks import Guide, filled
from napari_restore.models.andehazeformer.config import BANDS, PLANES, AnDehazeConfig
from napari_restore.models.atmosphere.model import Atmosphere
from napari_restore.models.atmosphere.small import small, small_overview
from napari_restore.models.atmosphere.spline import BilinearSampler
from napari_restore.models.classical.base import airlight_of

OVERVIEW_SIDE = 512
"""Longest side in pixels of the estimator's picture."""


def maps_in(planes: Tensor) -> dict[str, Tensor]:
    """Return the side maps, which are among the `GuidedModel.planes` of a picture."""
    return {"transmission": planes[:, PLANES - 1 : PLANES], "airlight": planes[:, PLANES:]}


class GuidedModel(SweptModel):
    """A model with an estimate of the haze from the overview.

    With `context` above 0 an atmosphere network of that width, with so many `looks`, finds
    transmission and airlight in the estimator's place.

    Statistics without it: ``dark`` (1, 1, h, w) D̂ per pixel of the overview, ``step`` () pixels
    per pixel of that, ``airlight`` (3,), ``airlight_all`` (bands,); else those of `Atmosphere`.
    With both ``strength`` (), ``texture`` (C,) and ``tint`` (C,).
    """

    derived = Atmosphere.derived

    def __init__(self, card: ModelCard, config: AnDehazeConfig, context: int, looks: int) -> None:
        super().__init__(card)
        self.config = config
        self.atmosphere = Atmosphere(card, context, looks) if context else None
        self.estimator = Estimator(config, is_guided=context > 0)

    @torch.no_grad()
    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        weight = self.estimator.wide.weight
        reduced, _, _ = small_overview(context, to_model, bands, weight.device, OVERVIEW_SIDE)
        picture, valid = reduced.picture.to(weight.dtype), reduced.valid.to(weight.dtype)
        step = float(context.factor * reduced.factor)
        if self.atmosphere is not None:
            found = self.atmosphere.prepare(context, to_model, bands)
            return {**found, **self._guide_behind(picture, valid, found, step)}
        estimate = self._estimated(picture, valid)
        everywhere = torch.from_numpy(airlight_of(context, to_model, tuple(range(context.bands))))
        everywhere = everywhere.to(estimate["airlight"])
        everywhere[list(bands)] = estimate["airlight"]
        return {**estimate, "step": torch.tensor(step), "airlight_all": everywhere}

    def derive(self, statistics: Statistics, context: Context) -> Statistics:
        return (
            statistics if self.atmosphere is None else self.atmosphere.derive(statistics, context)
        )

    def follow(self, overview: Tensor, valid: Tensor, statistics: Statistics) -> Statistics:
        reduced = small(overview, valid, OVERVIEW_SIDE)
        if self.atmosphere is None:
            return {**statistics, **self._estimated(reduced.picture, reduced.valid)}
        found = self.atmosphere.follow(overview, valid, statistics)
        # `step` of the atmosphere is that of the overview.
        step = float(statistics["step"]) * reduced.factor
        return {**found, **self._guide_behind(reduced.picture, reduced.valid, found, step)}

    def _estimated(self, picture: Tensor, valid: Tensor) -> dict[str, Tensor]:
        estimate: dict[str, Tensor] = self.estimator(picture, valid)._asdict()
        dark = estimate.pop("dark")
        return {"dark": dark, **{name: value[0] for name, value in estimate.items()}}

    def _guide_behind(
        self, picture: Tensor, valid: Tensor, statistics: Statistics, step: float
    ) -> dict[str, Tensor]:
        """Return strength, texture and tint behind the atmosphere, whose `statistics` are known."""
        assert self.atmosphere is not None
        placed = placed_at(statistics, [(0, 0)], step, picture)
        _, maps = self.atmosphere.forward_with_maps(picture, placed)
        guide = self._guide_of(picture, valid, maps["transmission"], statistics["airlight"][None])
        return {name: value[0] for name, value in guide._asdict().items()}

    def _guide_of(
        self, picture: Tensor, valid: Tensor, transmission: Tensor, airlight: Tensor
    ) -> Guide:
        """Return the guide of N pictures of known transmission: c_a is the largest haze share."""
        haze = (1 - transmission) * valid
        strength = haze.amax((1, 2, 3))
        dark = haze / strength.clamp(min=1e-3)[:, None, None, None]
        texture, tint, _ = self.estimator.guide(picture, valid, dark, airlight)
        return Guide(strength, texture, tint)

    def guide(self, statistics: Statistics) -> Guide:
        """Return the guide of the image of these statistics."""
        return Guide(*(statistics[name][None] for name in Guide._fields))

    def planes(self, x: Tensor, statistics: Statistics, valid: Tensor | None = None) -> Tensor:
        """Return planes (N, 10, h, w) of tiles (N, 3, h, w): see `PLANES`.

        `statistics` have the places of the tiles; `valid` (N, 1, h, w) bool.
        """
        x = x if valid is None else filled(x, valid, self.config.stride)
        if self.atmosphere is not None:
            left, maps = self.atmosphere.forward_with_maps(x, statistics)
            return torch.cat([x, left, maps["transmission"], maps["airlight"]], 1)
        shape = (x.shape[2], x.shape[3])
        known = statistics["dark"].to(x)
        step, scale = float(statistics["step"]), float(statistics["scale"])
        origins = statistics["origin"].tolist()
        dark = torch.cat(
            [
                BilinearSampler(known, step, (y0, x0), scale, shape).rows(0, shape[0])
                for y0, x0 in origins
            ]
        )
        return self._inverted_view(
            x, dark, statistics["strength"][None], statistics["airlight"][None]
        )

    def _inverted_view(self, x: Tensor, dark: Tensor, strength: Tensor, airlight: Tensor) -> Tensor:
        transmission = transmission_of(dark, strength.to(x))
        air = airlight.to(x)[:, :, None, None]
        left = inverted(x, transmission, air)
        return torch.cat([x, left, transmission, air.expand(x.shape)], 1)

    def observe(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Guide]:
        """Return view and guide of N whole images, with gradients, for training."""
        # The values of `prepare`, but for the restraint of an atmosphere.
        x = filled(x, valid, self.config.stride)
        known = valid.to(x.dtype)
        reduced = small(x, known, OVERVIEW_SIDE)
        if self.atmosphere is None:
            found = self.estimator(reduced.picture, reduced.valid)
            shape = (x.shape[2], x.shape[3])
            dark = BilinearSampler(found.dark, reduced.factor, (0, 0), 1.0, shape).rows(0, shape[0])
            view = self._inverted_view(x, dark, found.strength, found.airlight)
            return view, Guide(found.strength, found.texture, found.tint)
        seen = self.atmosphere.observe(x, valid)
        left, maps = self.atmosphere.invert(x, seen)
        haze = small(maps["transmission"], known, OVERVIEW_SIDE).picture
        airlight = seen["airlight"][..., 0, 0]
        guide = self._guide_of(reduced.picture, reduced.valid, haze, airlight)
        return torch.cat([x, left, maps["transmission"], maps["airlight"]], 1), guide


BRIGHTEST = 0.001
"""Share of the picture, haziest first, whose mean colour is the airlight."""
THINNEST = 0.1
"""Lower limit of the transmission."""
OUTSIDE = -1e3
"""Learned dark channel of invalid pixels, below all others."""


class HazeEstimate(NamedTuple):
    """Estimate for N pictures (N, 3, h, w)."""

    dark: Tensor
    """(N, 1, h, w) learned dark channel D̂ in (0, 1)."""
    airlight: Tensor
    """(N, 3) A."""
    strength: Tensor
    """(N,) c_a in (0, 1): the transmission is 1 − c_a · D̂."""
    texture: Tensor
    """(N, C) r, which strengthens texture under thick haze."""
    tint: Tensor
    """(N, C) b, which offsets the colour of the airlight."""


class Estimator(nn.Module):
    """D̂, A, c_a, r and b of a picture.

    D̂ = sigmoid(conv3(ReLU(conv5(x)))); A is the mean colour where D̂ is in its brightest
    thousandth; f = mean of conv3(LeakyReLU(conv5([x, D̂]))); [r, b, c_a] = MLP([f, A]). Where
    another network has found D̂, A and c_a, only r and b are its own (`is_guided`).
    """

    def __init__(self, config: AnDehazeConfig, is_guided: bool = False) -> None:
        super().__init__()
        width = config.estimator_width
        self.dark: nn.Sequential | None = None
        if not is_guided:
            self.dark = nn.Sequential(
                nn.Conv2d(BANDS, width, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(width, 1, 3, padding=1),
            )
        self.wide = nn.Conv2d(BANDS + 1, width, 5, padding=2)
        self.deep = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width + BANDS, 2 * config.width)
        self.out = nn.Linear(2 * config.width, 2 * config.width + (0 if is_guided else 1))
        self.width = config.width

    def forward(self, picture: Tensor, valid: Tensor) -> HazeEstimate:
        """Return the estimate; `valid` (N, 1, h, w) float, 0 or 1."""
        assert self.dark is not None
        picture = picture * valid
        dark = torch.sigmoid(self.dark(picture).to(picture.dtype))
        airlight = brightest(picture, dark, valid)
        texture, tint, rest = self.guide(picture, valid, dark, airlight)
        return HazeEstimate(dark, airlight, torch.sigmoid(rest[:, 0]), texture, tint)

    def guide(
        self, picture: Tensor, valid: Tensor, dark: Tensor, airlight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return r and b (N, C), and what else the MLP gives, (N, 0 or 1)."""
        seen = torch.cat([picture * valid, dark * valid], 1)
        features = self.deep(leaky_relu(self.wide(seen))).to(picture.dtype)
        pooled = (features * valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        out = self.out(relu(self.hidden(torch.cat([pooled, airlight], 1)))).to(picture.dtype)
        return tuple(out.split([self.width, self.width, out.shape[1] - 2 * self.width], 1))


def brightest(picture: Tensor, dark: Tensor, valid: Tensor) -> Tensor:
    """Return (N, 3) mean colours of the valid pixels where `dark` is in its brightest thousandth.

    At least one pixel; of equals the first, row by row. Zeros where none is valid.
    """
    found = []
    for colours, level, known in zip(picture, dark, valid > 0, strict=True):
        count = int(known.sum())
        ranked = torch.where(known, level, OUTSIDE).flatten().argsort(descending=True, stable=True)
        chosen = ranked[: math.ceil(BRIGHTEST * count)]
        mean = colours.flatten(1)[:, chosen].mean(1) if count else colours.new_zeros(len(colours))
        found.append(mean)
    return torch.stack(found)


def transmission_of(dark: Tensor, strength: Tensor) -> Tensor:
    """Return t = 1 − c_a · D̂ (N, 1, h, w), at least `THINNEST`."""
    return (1 - strength[:, None, None, None] * dark).clamp(THINNEST, 1)


def inverted(x: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Return J of x = J · t + A · (1 − t), (N, 3, h, w); `airlight` (N, 3, 1 or h, 1 or w)."""
    return airlight + (x - airlight) / transmission
