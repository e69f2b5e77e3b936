"""Pixels from tokens, scale by scale, steered by the scattering model."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, relu

from napari_restore.models.andehazeformer._config import BANDS, AnDehazeConfig

OUTPUTS = 1 + BANDS
"""K, one for all bands so that no colour shifts, and B."""
HALO = 24
"""Pixels around a pixel that its reconstruction depends on, at most, behind its token."""


class Output(nn.Conv2d):
    """K and B (N, 4, h, w) from features, 0 at first.

    Divided by √C: Adam moves each of the C weights of a value by about its learning rate, and one
    step must not overshoot.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, OUTPUTS, 1)
        self.gain: float = features**-0.5
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gain * super().forward(x)
        return out


class Scale(nn.Module):
    """Doubles the features' size and corrects K and B, given what those of the scale before make.

    The features see the image at this scale, the image restored so far, and the transmission.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(before, 4 * width, 1)
        self.mix = nn.Conv2d(width + 2 * BANDS + 1, width, 3, padding=1)
        self.change = Output(width)

    def forward(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (N, width, 2h, 2w) and the correction (N, 4, 2h, 2w).

        `seen` (N, 7, 2h, 2w): image, image restored so far, transmission.
        """
        features = pixel_shuffle(self.up(features), 2)
        features = features + relu(self.mix(torch.cat([features, seen.to(features)], 1)))
        return features, self.change(features)


class Reconstruction(nn.Module):
    """J = x + K · (x − A) − B, with K and B added up over scales from tokens to pixels.

    K = 1 / t − 1 and B = 0 invert the scattering model. An untrained network changes nothing.
    """

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.coarse = Output(config.width)
        widths = (config.width, *config.widths)
        self.scales = nn.ModuleList(Scale(before, width) for before, width in pairwise(widths))
        self.gain = config.width**0.5 if config.normalised else 1.0

    def forward(self, tokens: Tensor, x: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
        """Return what is added to `x` (N, 3, H, W): K · (x − A) − B.

        `tokens` (N, h, w, C), `transmission` (N, 1, H, W), `airlight` (N, 3, H, W).
        """
        # Unit vectors have channels of about 1 / √C.
        features = tokens.permute(0, 3, 1, 2) * self.gain
        known = self.coarse(features).to(x.dtype)
        guide = torch.cat([x, transmission, airlight], 1)
        side = self.stride
        for scale in self.scales:
            side //= 2
            pixels, haze, air = torch.split(avg_pool2d(guide, side), [BANDS, 1, BANDS], 1)
            known = interpolate(known, scale_factor=2, mode="bilinear", align_corners=False)
            seen = torch.cat([pixels, pixels + change(known, pixels, air), haze], 1)
            features, correction = scale(features, seen)
            known = known + correction.to(x.dtype)
        return change(known, x, airlight)


def change(known: Tensor, x: Tensor, airlight: Tensor) -> Tensor:
    """Return K · (x − A) − B of `known` (N, 4, h, w)."""
    return known[:, :1] * (x - airlight) - known[:, 1:]
