"""The light of a scene from a bracket: the mean of its frames by the inverse of their noise.

Sources: Aguerrebere, Delon, Gousseau, Musé, "Best Algorithms for HDR Image Generation", SIAM Journal
on Imaging Sciences 7, 2014 (weights by a first estimate, not by each frame's own noisy value);
Debevec, Malik, "Recovering High Dynamic Range Radiance Maps from Photographs", SIGGRAPH 1997.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._model import RestorationModel, Statistics

COLOURS = 3
USUAL = 2.0
"""EV between frames whose exposures are not known: those of a probe."""
FADE = 0.5
"""Share of the light below clipped pixels over which a frame fades out: with the curve of a camera it
fits the next one roughly only, and a seam would show."""
FLATTEST = 1 / 12.92
"""Slope of the curve of sRGB at black, light by display value."""


class Radiance(RestorationModel):
    """The light (N, C, H, W) of frames (N, F · C, H, W), dark to bright, in linear light.

    1 is white of the reference: a frame at EV e is clipped at 2^−e. A pixel with a clipped band
    weighs nothing, nor does an invalid one; where none is left, the darkest valid frame counts. The
    variance of a value v of a frame, 1 being its white, is v / electrons of photons, plus that of
    reading and that of rounding. Pixel by pixel: it has no halo.
    """

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        count = self.card.inputs or x.shape[1] // COLOURS
        frames = x.reshape(len(x), count, -1, *x.shape[2:])
        weights = self.weights(frames, valid)
        # What weighs nothing may be any number.
        return torch.where(weights > 0, weights * frames, 0).sum(1), {}

    def weights(self, frames: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the weights (N, F, 1, h, w) of frames (N, F, C, h, w): they add up to 1.

        `valid` is (N, F, h, w) bool.
        """
        gains = self._gains(frames)
        known = torch.ones_like(frames[:, :, 0], dtype=torch.bool) if valid is None else valid
        known = known[:, :, None]
        own = torch.where(known, frames, 0) * gains
        trust = self._unclipped(own.amax(2, keepdim=True)) * known
        # The light is estimated by photons alone first.
        photons = (trust * gains).sum(1, keepdim=True)
        first = (trust * own).sum(1, keepdim=True) / photons.clamp(min=1e-30)
        seen = (first * gains).mean(2, keepdim=True).clamp(0, 1)
        weight = trust * gains * gains / self._variance(seen)
        total = weight.sum(1, keepdim=True)
        return torch.where(total > 0, weight / total.clamp(min=1e-30), _first(known))

    def _gains(self, frames: Tensor) -> Tensor:
        """Return 2^EV of each frame (1, F, 1, 1, 1)."""
        count = frames.shape[1]
        middle = (count - 1) // 2 if self.reference is None else self.reference
        evs = self.exposures or tuple(USUAL * (number - middle) for number in range(count))
        return frames.new_tensor([2.0**ev for ev in evs]).reshape(1, -1, 1, 1, 1)

    def _unclipped(self, brightest: Tensor) -> Tensor:
        """Return 0 where the brightest band of a frame, 1 being its white, is clipped, up to 1."""
        display = float(self.card.values["clipped"])
        top = ((display + 0.055) / 1.055) ** 2.4
        trust: Tensor = ((top - brightest) / (FADE * top)).clamp(0, 1)
        return trust

    def _variance(self, seen: Tensor) -> Tensor:
        """Return the variance of a value that is expected to be `seen`, 1 being white."""
        electrons, read = (float(self.card.values[name]) for name in ("electrons", "read"))
        # As of a curve with an exponent of 2, without powers: they differ by the shape of a tile.
        # A root of 0 would have no gradient.
        slope = 2 * seen.clamp(min=(FLATTEST / 2) ** 2).sqrt()
        rounding = slope * slope * (self.step**2 / 12)
        return seen / electrons + (read / electrons) ** 2 + rounding + 1e-12


def _first(known: Tensor) -> Tensor:
    """Return 1 for the darkest frame that is known, else 0; where none is, for the darkest."""
    before = known.long().cumsum(1)
    first = known & (before == 1)
    none = before[:, -1:] == 0
    darkest = torch.zeros_like(first)
    darkest[:, :1] = True
    return torch.where(none, darkest, first).float()


def make(card: ModelCard) -> Radiance:
    """Return the method; number and exposures of the frames are those of each image."""
    return Radiance(card)
