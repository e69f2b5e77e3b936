"""The network that reads airlight, spectral exponent and transmission off a small picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad, relu, softmax

from napari_restore.errors import BadModel

CELL = 4
"""Pixels per cell that the network sees: mean, darkest, brightest, spread, and so on."""
STRIDE = 8
"""Pixels per cell of the maps it draws."""
MULTIPLE = 64
"""Pixels per cell of its coarsest grid."""
REACHES = (1, 3, 7)
"""Cells around each in which it sees the darkest value of any band: the dark channel."""
FEATURES = 12 + len(REACHES)
GUIDED = 4.0
"""Largest slope of the transmission's logit over luminance."""


@dataclass(frozen=True)
class Seen:
    """What the network says of N pictures in units of their own brightness."""

    offset: Tensor
    """(N, 1, gh, gw) logit of the haze at luminance 0.5, on cells of `STRIDE` pixels."""
    slope: Tensor
    """(N, 1, gh, gw) how that logit grows with a pixel's luminance."""
    presence: Tensor
    """(N,) factor 0 to 1 of the optical depth: exactly 0 in pictures without haze."""
    airlight: Tensor
    """(N, 3) red, green, blue."""
    exponent: Tensor
    """(N,) g of Ångström's law."""
    display: Tensor
    """(N,) share of the change that is computed in display values, the rest in linear light."""


class Block(nn.Module):
    """x + relu(conv(x)): plain convolutions train fastest on a processor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + relu(self.conv(x))


class AtmosphereNetwork(nn.Module):
    """A U-Net on cells of 4 pixels with one token that sees everything.

    `width` channels at the finest grid. Airlight is a weighted mean of the picture's
    own colours, pushed by the token, so that no colour has to be learned by heart.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = [width, 2 * width, 10 * width // 3, 14 * width // 3, 16 * width // 3]
        self.stem = nn.Conv2d(FEATURES, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(w) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        deep = widths[-1]
        self.token = nn.Sequential(
            nn.Linear(2 * deep + 7, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU()
        )
        self.tell = nn.ModuleList(nn.Linear(deep, w) for w in widths[1:])
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths[1:]))
        self.decoders = nn.ModuleList(_blocks(w) for w in widths[1:-1])
        self.maps = nn.Conv2d(widths[1], 2, 3, padding=1)
        self.look = nn.Conv2d(widths[2], 1, 1)
        self.numbers = nn.Linear(deep, 6)
        _start(self.maps, [-1.5, 0.0])
        # Airlight is brighter than what it is mixed with; most pictures have haze.
        _start(self.numbers, [0.3, 0.3, 0.3, 0.0, 2.0, 0.0])

    def forward(self, picture: Tensor, valid: Tensor) -> Seen:
        """`picture` (N, 3, H, W) of mean luminance near 0.45, `valid` (N, 1, H, W) float 0 or 1.

        Invalid pixels may hold anything finite.
        """
        height, width = (-(-s // STRIDE) for s in picture.shape[2:])
        cells, counted, colours = _cells(picture, valid)
        x = self.stem(cells)
        kept = []
        for level, encode in enumerate(self.encoders):
            if level:
                x = self.downs[level - 1](x)
            x = encode(x)
            kept.append(x)
        token = self._token(x, counted, colours)
        x = x + self.tell[-1](token)[:, :, None, None]
        looked = None
        for level in range(len(self.decoders) - 1, -1, -1):
            up = nn.functional.pixel_shuffle(self.ups[level](x), 2)
            x = kept[level + 1] + up + self.tell[level](token)[:, :, None, None]
            x = self.decoders[level](x)
            if level == 1:
                looked = self.look(x)
        assert looked is not None
        maps = self.maps(x)[:, :, :height, :width].float()
        numbers = self.numbers(token).float()
        return Seen(
            offset=maps[:, :1],
            slope=GUIDED * torch.tanh(maps[:, 1:]),
            presence=_clamped(1.2 * torch.sigmoid(numbers[:, 4]) - 0.1),
            airlight=_looked_at(looked.float(), counted, colours)
            * torch.exp(0.7 * torch.tanh(numbers[:, :3])),
            exponent=1.6 * torch.sigmoid(numbers[:, 3]) - 0.1,
            display=torch.sigmoid(numbers[:, 5]),
        )

    def _token(self, x: Tensor, counted: Tensor, colours: Tensor) -> Tensor:
        share = _pooled(counted, x.shape[2])
        weight = share / share.sum((2, 3), keepdim=True).clamp(min=1e-6)
        mean = (x * weight).sum((2, 3))
        most = x.masked_fill(share == 0, -1e3).amax((2, 3))
        whole = counted.sum((2, 3)).clamp(min=1e-6)
        colour = (colours * counted).sum((2, 3)) / whole
        spread = ((colours - colour[:, :, None, None]) ** 2 * counted).sum((2, 3)) / whole
        return torch.as_tensor(
            self.token(
                torch.cat([mean, most, colour, (spread + 1e-8).sqrt(), counted.mean((2, 3))], 1)
            )
        )


def _cells(picture: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, FEATURES, h, w), valid shares (N, 1, h, w), mean colours (N, 3, h, w) of cells.

    Grown at the right and bottom, as invalid, to whole cells of the coarsest grid.
    """
    bottom, right = -picture.shape[2] % MULTIPLE, -picture.shape[3] % MULTIPLE
    valid = pad(valid, (0, right, 0, bottom))
    picture = pad(picture, (0, right, 0, bottom)) * valid
    share = avg_pool2d(valid, CELL)
    some = share.clamp(min=1e-6)
    mean = avg_pool2d(picture, CELL) / some
    # Invalid pixels take part in neither extreme.
    hidden = (1 - valid) * 4.0
    dark = -max_pool2d(-(picture + hidden), CELL)
    bright = max_pool2d(picture - hidden, CELL).amax(1, keepdim=True)
    luminance = picture.mean(1, keepdim=True)
    square = avg_pool2d(luminance * luminance, CELL) / some
    spread = (square - mean.mean(1, keepdim=True) ** 2).clamp(min=0).add(1e-6).sqrt()
    there = (share > 0).to(mean.dtype)
    saturation = (mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True)) * there
    features = [mean - 0.45, dark - 0.3, bright - 0.6, 4 * spread, 2 * saturation, share - 1]
    least = dark.amin(1, keepdim=True)
    features += [least - 0.3, *(_widened(-least, reach).neg() - 0.2 for reach in REACHES)]
    features.append(_widened(bright, REACHES[-1]) - 0.8)
    return torch.cat([f * there for f in features], 1), share, mean * there


def _widened(plane: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` cells."""
    return max_pool2d(plane, 2 * reach + 1, stride=1, padding=reach)


def _pooled(share: Tensor, rows: int) -> Tensor:
    return avg_pool2d(share, share.shape[2] // rows)


def _clamped(x: Tensor) -> Tensor:
    """0 … 1, with gradients beyond: a presence that has become 0 can come back."""
    return x + (x.clamp(0, 1) - x).detach()


def _looked_at(logits: Tensor, counted: Tensor, colours: Tensor) -> Tensor:
    """(N, 3) mean colour of the cells that `logits` (N, 1, h, w) points at."""
    factor = counted.shape[2] // logits.shape[2]
    share = avg_pool2d(counted, factor)
    colour = avg_pool2d(colours * counted, factor) / share.clamp(min=1e-6)
    # A picture without a valid cell must not give NaN.
    logits = logits.masked_fill(share == 0, -1e4).flatten(2)
    return (softmax(logits, 2) * colour.flatten(2)).sum(2)


def _start(last: nn.Conv2d | nn.Linear, values: list[float]) -> None:
    """Let a layer begin near `values` whatever it sees."""
    with torch.no_grad():
        last.weight.mul_(0.1)
    last.bias = nn.Parameter(torch.tensor(values))


def _blocks(width: int) -> nn.Sequential:
    return nn.Sequential(Block(width), Block(width))


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Width of the network whose state dict this is; raises `BadModel`."""
    stem = state.get("network.stem.weight")
    if stem is None or stem.ndim != 4 or stem.shape[1] != FEATURES:
        raise BadModel(
            "These weights are not those of atmosphere.", "Choose the model they were made for."
        )
    return {"width": stem.shape[0]}
