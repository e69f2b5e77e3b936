"""Base of the network: what it knows of an image's haze from the overview."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel, placed_at
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.andehazeformer._config import PLANES, AnDehazeConfig
from napari_restore.models.andehazeformer._embedding import filled
from napari_restore.models.andehazeformer._estimator import Estimator, inverted, transmission_of
from napari_restore.models.atmosphere._model import Atmosphere
from napari_restore.models.atmosphere._small import small, small_overview
from napari_restore.models.atmosphere._spline import Sampler
from napari_restore.models.classical._airlight import airlight_of

OVERVIEW_SIDE = 512
"""Longest side in pixels of the estimator's picture."""


class Guide(NamedTuple):
    """What the blocks take from the overview, for N images, or one for all."""

    strength: Tensor
    """(N,) c_a."""
    texture: Tensor
    """(N, C) r."""
    tint: Tensor
    """(N, C) b."""


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

    def follow(self, overview: Tensor, valid: Tensor, statistics: Statistics) -> Statistics:
        reduced = small(overview, valid, OVERVIEW_SIDE)
        if self.atmosphere is None:
            return {**statistics, **self._estimated(reduced.picture, reduced.valid)}
        found = self.atmosphere.follow(overview, valid, statistics)
        # `step` of the atmosphere is that of the overview.
        step = float(statistics["step"]) * reduced.factor
        return {**found, **self._guide_behind(reduced.picture, reduced.valid, found, step)}

    def _estimated(self, picture: Tensor, valid: Tensor) -> dict[str, Tensor]:
        estimate = self.estimator(picture, valid)
        return {
            "dark": estimate.dark,
            "airlight": estimate.airlight[0],
            "strength": estimate.strength[0],
            "texture": estimate.texture[0],
            "tint": estimate.tint[0],
        }

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
            [Sampler(known, step, (y0, x0), scale, shape).rows(0, shape[0]) for y0, x0 in origins]
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
        """Return view and guide of N whole images, with gradients, for training.

        The values of `prepare`, but for the restraint of an atmosphere.
        """
        x = filled(x, valid, self.config.stride)
        known = valid.to(x.dtype)
        reduced = small(x, known, OVERVIEW_SIDE)
        if self.atmosphere is None:
            found = self.estimator(reduced.picture, reduced.valid)
            shape = (x.shape[2], x.shape[3])
            dark = Sampler(found.dark, reduced.factor, (0, 0), 1.0, shape).rows(0, shape[0])
            view = self._inverted_view(x, dark, found.strength, found.airlight)
            return view, Guide(found.strength, found.texture, found.tint)
        seen = self.atmosphere.observe(x, valid)
        left, maps = self.atmosphere.invert(x, seen)
        haze = small(maps["transmission"], known, OVERVIEW_SIDE).picture
        airlight = seen["airlight"][..., 0, 0]
        guide = self._guide_of(reduced.picture, reduced.valid, haze, airlight)
        return torch.cat([x, left, maps["transmission"], maps["airlight"]], 1), guide
