"""Network that estimates airlight, spectral exponent and transmission from a small picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from napari_restore.models._weights import other_network
from napari_restore.models.atmosphere._cells import (
    FEATURES,
    HIDDEN,
    Cells,
    coarser,
    halved,
    mean_of,
    widened,
)
from napari_restore.models.atmosphere._inversion import inverted, optical_depth
from napari_restore.models.atmosphere._pass import NUMBERS, AtmospherePass, PassOutput

STRIDE = 8
"""Pixels per cell of the maps it estimates."""
GUIDED = 4.0
"""Largest slope of the transmission's logit over luminance."""
COLOURED = 0.02
"""Mean difference of the brightest and the darkest band from which a picture has colours."""
PICTURE_NUMBERS = 7
"""Numbers about a picture: mean colour, its standard deviation, the valid share."""
SECOND_PASS_FEATURES = 16
"""Features that a second pass adds: the picture after the first one."""


@dataclass(frozen=True)
class Estimate:
    """Estimate for N pictures in units of their own brightness."""

    offset: Tensor
    """(N, 1, gh, gw) logit of the haze at luminance 0.5, on cells of `STRIDE` pixels."""
    slope: Tensor
    """(N, 1, gh, gw) growth of that logit with a pixel's luminance."""
    presence: Tensor
    """(N,) factor 0 to 1 of the optical depth: exactly 0 in pictures without haze."""
    airlight: Tensor
    """(N, 3) red, green, blue."""
    exponent: Tensor
    """(N,) g of Ångström's law."""
    display: Tensor
    """(N,) 1 for haze that was made of display values, 0 for haze in linear light."""


class AtmosphereNetwork(nn.Module):
    """Network with two passes: on the picture, and on the picture with the result of the first.

    Errors show in the result: values below black where the haze was overestimated, remaining haze,
    edges of a map that are no edges of the scene. The second pass adds a correction to the first.
    Airlight is a weighted mean of the picture's own colours, shifted by the token, so that no
    colour has to be memorised. `width` channels at the finest grid; `looks` is 1 or 2.
    """

    def __init__(self, width: int = 24, looks: int = 2) -> None:
        super().__init__()
        if looks not in (1, 2):
            raise ValueError(f"looks is {looks}; it is 1 or 2")
        widths = [width, 2 * width, 10 * width // 3, 14 * width // 3, 16 * width // 3]
        self.first = AtmospherePass(FEATURES, widths, 1, PICTURE_NUMBERS)
        # Airlight is brighter than what it is mixed with; most pictures have haze.
        self.first.start([-1.5, 0.0], [0.3, 0.3, 0.3, 0.0, 2.0, 0.0])
        self.second: AtmospherePass | None = None
        if looks == 2:
            self.second = AtmospherePass(
                widths[1] + SECOND_PASS_FEATURES, widths[1:], 0, PICTURE_NUMBERS + NUMBERS + 7
            )
            self.second.start([0.0, 0.0], [0.0] * NUMBERS, 0.05)

    def forward(self, cells: Cells, shape: tuple[int, int]) -> Estimate:
        """Return the estimate for cells of pictures of `shape`, with mean luminance near 0.45."""
        mean, spread = _statistics(cells.colour, cells.share)
        numbers_in = torch.cat([mean, spread, cells.share.mean((2, 3))], 1)
        output, drawn = self.first(cells.features, cells.share, numbers_in)
        if self.second is not None:
            # In training no gradient goes back: the first pass is trained by the sum of both.
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
                features, numbers_in = _without_haze(cells, output, numbers_in)
            more, _ = self.second(torch.cat([drawn, features], 1), cells.share, numbers_in)
            output = PassOutput(*(a + b for a, b in zip(output, more, strict=True)))
        estimate = _estimate_of(output, cells)
        height, width = (-(-s // STRIDE) for s in shape)
        return replace(
            estimate,
            offset=estimate.offset[:, :, :height, :width],
            slope=estimate.slope[:, :, :height, :width],
        )


def _estimate_of(output: PassOutput, cells: Cells) -> Estimate:
    numbers = output.numbers
    airlight = _weighted_colour(output.where, cells) * torch.exp(0.7 * torch.tanh(numbers[:, :3]))
    grey = airlight.mean(1, keepdim=True)
    tint = _tint(cells)
    return Estimate(
        offset=output.maps[:, :1],
        slope=GUIDED * torch.tanh(output.maps[:, 1:]),
        presence=_clamped(1.2 * torch.sigmoid(numbers[:, 4]) - 0.1),
        airlight=grey + (airlight - grey) * tint[:, None],
        exponent=(1.6 * torch.sigmoid(numbers[:, 3]) - 0.1) * tint,
        display=torch.sigmoid(numbers[:, 5]),
    )


def _tint(cells: Cells) -> Tensor:
    """Return (N,) 1 for pictures with colours, 0 for grey ones: their haze is grey, too."""
    chroma = cells.colour.amax(1, keepdim=True) - cells.colour.amin(1, keepdim=True)
    return (mean_of(chroma, cells.share)[:, 0] / COLOURED).clamp(max=1)


def _without_haze(cells: Cells, output: PassOutput, numbers_in: Tensor) -> tuple[Tensor, Tensor]:
    """Return the picture without the estimated haze: features of cells, and numbers."""
    with torch.autocast(cells.share.device.type, enabled=False):
        estimate = _estimate_of(output, cells)
        share, colour, dark = (part.float() for part in halved(cells))
        has_valid = (share > 0).to(share.dtype)
        wide = {
            "brightness": share.new_ones(1, 1, 1, 1),
            "presence": estimate.presence[:, None, None, None],
            "exponent": estimate.exponent[:, None, None, None],
            "display": estimate.display[:, None, None, None],
        }
        airlight = estimate.airlight[:, :, None, None]
        depth = optical_depth(colour, estimate.offset, estimate.slope, wide)
        mean = inverted(colour, depth, airlight, wide, 0.0)[0].clamp(-1, 2)
        least = inverted(dark, depth, airlight, wide, 0.0)[0].clamp(-1, 2)
        darkest = torch.where(share > 0, least.amin(1, keepdim=True), HIDDEN)
        features = torch.cat(
            [
                mean - 0.3,
                least - 0.2,
                darkest.clamp(max=1.0),
                (-widened(-darkest, 1)).clamp(max=1.0),
                (-widened(-darkest, 3)).clamp(max=1.0),
                mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True),
                torch.exp(-depth) - 0.6,
                airlight - colour,
                share - 1,
                depth - 0.5,
            ],
            1,
        )
        average, spread = _statistics(mean, share)
        mist = mean_of(depth, share)
        return features * has_valid, torch.cat(
            [numbers_in, output.numbers, average, spread, mist], 1
        )


def _statistics(colour: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, 3) mean and standard deviation of the cells' colours."""
    mean = mean_of(colour, share)
    square = mean_of((colour - mean[:, :, None, None]) ** 2, share)
    return mean, (square + 1e-8).sqrt()


def _clamped(x: Tensor) -> Tensor:
    """Clamp to 0 … 1, with gradients beyond: a presence of 0 can grow again."""
    return x + (x.clamp(0, 1) - x).detach()


def _weighted_colour(logits: Tensor, cells: Cells) -> Tensor:
    """Return (N, 3) mean colour of the cells weighted by `logits` (N, 1, h, w)."""
    factor = cells.share.shape[2] // logits.shape[2]
    share, colour = coarser(cells, factor)
    # A picture without a valid cell must not give NaN.
    logits = logits.masked_fill(share == 0, -1e4).flatten(2)
    return (softmax(logits, 2) * colour.flatten(2)).sum(2)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the network of this state dict; raises `BadModel`."""
    stem = state.get("network.first.stem.weight")
    if stem is None or stem.ndim != 4 or stem.shape[1] != FEATURES:
        raise other_network("atmosphere")
    return {"width": stem.shape[0], "looks": 2 if "network.second.stem.weight" in state else 1}
