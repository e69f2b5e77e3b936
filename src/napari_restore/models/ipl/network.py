"""IPL: an image's features in cells of 4 × 4 pixels, attention in slices, and cubes of all of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._card import ModelCard
from napari_restore.models._exposure_curves import (
    FEWEST,
    by_frame,
    continued,
    looked_up,
    pairs_of,
    quantile,
    sampled_values,
)
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import RestorationModel
from napari_restore.models.ipl.config import (
    BANDS,
    CONTEXT,
    DARKEST,
    FRAMES,
    MIX,
    STRIDE,
    TONE,
    IplConfig,
)
from napari_restore.models.ipl.cube import CubeLayers, sampled
from napari_restore.models.ipl.slices import SliceAttentions

MEDIUM = slice(BANDS, 2 * BANDS)
"""Planes of X2, the frame of medium exposure."""
MIDDLE = FRAMES // 2
BINS = (128, 64)
"""Steps of values of X2, and of the other frames, in histograms of pairs."""
GAINS = {"third": 0.1, "expand": 0.1, "up": 0.01, "mix.2": 0.01, "detail.4": 0.01}
"""Factors of first weights: every block begins near its input, the result near the medium frame."""


class IplNetwork(RestorationModel):
    """IPL: three frames (N, 9, H, W), dark to bright, make one image (N, 3, H, W).

    F0 = down(X); for every block D = attention(x), x ← D + D · cube(D); y = gate(x + F0) · X2, or the
    mixture of `IplConfig.mixes`. The gate is 1 plus the up-sampler: a network begins with its medium
    frame. Images of a batch know
    nothing of each other. Source: "Ultra-High-Definition Dynamic Multi-Exposure Image Fusion via
    Infinite Pixel Learning", AAAI 2025, a re-implementation.
    """

    def __init__(self, card: ModelCard, config: IplConfig) -> None:
        super().__init__(card)
        self.config = config
        channels, area = config.channels, STRIDE**2
        self.down = nn.Conv2d(config.planes, channels // area, 3, padding=1)
        own = 1 if config.shared else config.blocks
        self.attention = nn.ModuleList(SliceAttentions(config) for _ in range(own))
        self.cubes = nn.ModuleList(CubeLayers(channels) for _ in range(config.blocks))
        if config.mixes:
            self.mix = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(channels, config.outputs * (STRIDE // MIX) ** 2, 1),
            )
        else:
            self.up = nn.Conv2d(channels, config.outputs * area, 3, padding=1)
        if config.detail:
            planes = (config.planes + BANDS + CONTEXT, config.detail, config.detail, BANDS)
            self.detail = nn.Sequential(
                nn.Conv2d(planes[0], planes[1], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(planes[1], planes[2], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(planes[2], planes[3], 3, padding=1),
            )
        self._initialise()

    @property
    def ends(self) -> tuple[str, ...]:
        """Names of the weights that begin small: every block near its attention, the gate near 1."""
        last = ["mix.2" if self.config.mixes else "up", *["detail.4"] * bool(self.config.detail)]
        last += [f"cubes.{n}.third" for n in range(self.config.blocks)]
        return tuple(f"{name}.weight" for name in last)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw weights that keep the size of a signal through all blocks (LeCun et al. 1998)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.zero_()
                continue
            spread = parameter[0].numel() ** -0.5
            gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
            parameter.normal_(std=gain * spread)

    @property
    def halo(self) -> int:
        """Pixels around a tile that `finish` sees, whole cells.

        A cell for each of the two convolutions of cells, another where gates are interpolated, and
        one for the convolutions of pixels.
        """
        return STRIDE * (2 + self.config.mixes + bool(self.config.detail))

    def seen(self, x: Tensor, valid: Tensor | None, curves: Tensor | None) -> Tensor:
        """Return what the network sees (N, `config.planes`, h, w) of frames (N, 9, h, w).

        `curves` are those of the image, `curves_of`; None unless `config.curves`.
        """
        frames = filled(x, valid)
        if curves is None:
            return frames
        outer = by_frame(frames)[:, ::2]
        found = curves.to(frames).expand(len(frames), -1, -1, -1)
        return torch.cat([frames, looked_up(found, outer).flatten(1, 2)], dim=1)

    def features(self, x: Tensor) -> Tensor:
        """Return F0 (N, C, h / 4, w / 4) of what is `seen`; it needs a halo of a cell."""
        return functional.pixel_unshuffle(self.down(x), STRIDE)

    def attend(self, block: int, x: Tensor) -> Tensor:
        """Return D of a block's features, whose slices begin at 0."""
        own = self.attention[0 if self.config.shared else block]
        attended: Tensor = own(x, self._value("reading", "R3"))
        return attended

    def relate(self, block: int, cube: Tensor) -> Tensor:
        """Return a block's cube (N, C, C, C) of the samples (N, C, C, C) of its D."""
        turns, last = self._value("turns", "roll"), self._value("last", "gelu")
        related: Tensor = self.cubes[block](cube, turns, last)
        return related

    def finish(self, last: Tensor, x: Tensor) -> Tensor:
        """Return the image from x + F0 and what is `seen`; it needs a halo of `halo` pixels."""
        if not self.config.mixes:
            return (1 + functional.pixel_shuffle(self.up(last), STRIDE)) * x[:, MEDIUM]
        made = functional.pixel_shuffle(self.mix(last), STRIDE // MIX)
        fine = functional.interpolate(made, scale_factor=MIX, mode="bilinear", align_corners=False)
        planes = self.config.planes
        gates, offset, context = fine.tensor_split((planes, planes + BANDS), dim=1)
        mixed = by_frame(gates * x).sum(1)
        y: Tensor = x[:, MEDIUM] + mixed + offset
        if self.config.detail:
            y = y + self.detail(torch.cat((y, x, context), 1))
        return y.clamp(min=DARKEST) ** TONE

    def whole(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the fused image (N, 3, H, W) of whole brackets (N, 9, H, W), see `filled`."""
        height, width = x.shape[2:]
        curves = None
        if self.config.curves:
            pairs = pairs_of(sampled_values(by_frame(x), valid), MIDDLE, *BINS)
            curves = curves_of(pairs.detach())
        frames = pad_to_multiple(self.seen(x, valid, curves), STRIDE)
        first = last = self.features(frames)
        side = self.config.channels
        for block in range(self.config.blocks):
            attended = self.attend(block, last)
            cube = self.relate(block, sampled(attended, side, side))
            last = attended + attended * sampled(cube, *attended.shape[2:])
        return self.finish(last + first, frames)[..., :height, :width]

    def _value(self, name: str, default: Any) -> Any:
        return self.card.values.get(name, default)


def curves_of(pairs: Tensor) -> Tensor:
    """Return X2 for each value of X1 and X3, (N, 2, 3, rows), the median of the image.

    `pairs` are those of `pairs_of`, (N, 3, 3, columns, rows) with X2 along the columns.
    """
    counted = pairs[:, ::2].transpose(-1, -2)
    median = continued(quantile(counted, 0.5), counted.sum(-1) >= FEWEST)
    # Of all values up to each: programs for ONNX have no running maximum.
    upto = median.new_ones(median.shape[-1], median.shape[-1], dtype=torch.bool).tril()
    return torch.where(upto, median[..., None, :], -torch.inf).amax(-1).float()


def filled(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return frames (N, 9, h, w) whose invalid pixels are the mean of the valid frames, or 0.

    `valid` is (N, 3, h, w) bool; None: all pixels are.
    """
    if valid is None:
        return x
    frames, known = by_frame(x), valid[:, :, None]
    total = torch.where(known, frames, 0).sum(1, keepdim=True)
    mean = total / known.sum(1, keepdim=True).clamp(min=1)
    return torch.where(known, frames, mean).flatten(1, 2)
