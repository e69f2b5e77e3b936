"""DehazeFormer, attention within windows, normalised by mean and deviation of the whole image.

Song, He, Qian, Du: Vision transformers for single image dehazing, IEEE Transactions on Image
Processing 32, 2023, arXiv:2204.03883. The authors' code and weights are under the MIT licence; this
file was written from the paper and the names and shapes of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.parameter import Parameter

from napari_restore.models._layers import from_windows, to_windows
from napari_restore.models._weights import layers_in, other_network

_LAYERS = 5


class RescaleNorm(nn.Module):
    """Normalises (N, C, H, W) by the mean and deviation of all its values.

    Returns it with scale and bias (N, C, 1, 1), that give the result of the layer its range back.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(1, width, 1, 1))
        self.bias = Parameter(torch.zeros(1, width, 1, 1))
        self.meta1, self.meta2 = nn.Conv2d(1, width, 1), nn.Conv2d(1, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        centred = x - mean
        deviation = ((centred * centred).mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
        normal = centred / deviation * self.weight + self.bias
        return normal, self.meta1(deviation), self.meta2(mean)


class WindowAttention(nn.Module):
    """Attention within windows (windows, side², 3 · C), with a bias that a network makes of offsets."""

    relative_positions: Tensor

    def __init__(self, width: int, side: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        place = torch.arange(side)
        rows, columns = place.repeat_interleave(side), place.repeat(side)
        offsets = torch.stack([axis[:, None] - axis[None, :] for axis in (rows, columns)], dim=-1)
        self.register_buffer("relative_positions", offsets.sign() * (1.0 + offsets.abs()).log())
        self.meta = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, heads))

    def forward(self, qkv: Tensor) -> Tensor:
        count, tokens, channels = qkv.shape
        parts = qkv.reshape(count, tokens, 3, self.heads, channels // 3 // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.meta(self.relative_positions).permute(2, 0, 1)
        scores = (queries * self.scale) @ keys.transpose(-2, -1) + bias
        seen = scores.softmax(dim=-1) @ values
        joint: Tensor = seen.transpose(1, 2).reshape(count, tokens, channels // 3)
        return joint


class Mixing(nn.Module):
    """Mixes neighbours of (N, C, H, W), by a convolution and with `heads` of attention (0: none).

    `deep` is the convolution of each channel by itself; else there are two of all channels.
    """

    def __init__(
        self, width: int, side: int, shift: int, heads: int, hidden: int, kind: str
    ) -> None:
        super().__init__()
        self.side, self.shift, self.heads, self.kind = side, shift, heads, kind
        if kind == "Conv":
            layers = (
                nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect") for _ in range(2)
            )
            first, second = layers
            self.conv: nn.Module = nn.Sequential(first, nn.ReLU(), second)
        elif kind == "DWConv":
            self.conv = nn.Conv2d(width, width, 5, padding=2, groups=width, padding_mode="reflect")
        if kind == "DWConv" or heads:
            self.V, self.proj = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        if heads:
            self.QK = nn.Conv2d(width, 2 * width, 1)
            self.attn = WindowAttention(width, side, heads, hidden)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor
        if not self.heads:
            mixed = self.conv(x) if self.kind == "Conv" else self.proj(self.conv(self.V(x)))
            return mixed
        values = self.V(x)
        seen = self._attended(torch.cat((self.QK(x), values), dim=1))
        mixed = self.proj(self.conv(values) + seen if self.kind else seen)
        return mixed

    def _attended(self, qkv: Tensor) -> Tensor:
        height, width = qkv.shape[-2:]
        before, side = self.shift, self.side
        right, down = (-(length + before) % side for length in (width, height))
        wide = pad(qkv, (before, right, before, down), "reflect").permute(0, 2, 3, 1)
        seen = from_windows(self.attn(to_windows(wide, side)), side, *wide.shape[1:3])
        kept = seen[:, before : before + height, before : before + width]
        return kept.permute(0, 3, 1, 2)


class PixelFeedForward(nn.Sequential):
    """Two layers of each pixel by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1)
        )


class DehazeBlock(nn.Module):
    """A block of (N, width, H, W) with `heads` of attention; with 0 it is not normalised either."""

    def __init__(
        self, width: int, side: int, shift: int, heads: int, hidden: int, kind: str, fed: int
    ) -> None:
        super().__init__()
        self.attends = heads > 0
        if self.attends:
            self.norm1 = RescaleNorm(width)
        self.attn = Mixing(width, side, shift, heads, hidden, kind)
        self.mlp = PixelFeedForward(width, fed)

    def forward(self, x: Tensor) -> Tensor:
        if self.attends:
            normal, scale, bias = self.norm1(x)
            x = x + (self.attn(normal) * scale + bias)
        else:
            x = x + self.attn(x)
        fed: Tensor = self.mlp(x)
        return x + fed


class SkipFusion(nn.Module):
    """Mixes two maps by weights of each channel, that it makes of their means over the image."""

    def __init__(self, width: int, between: int) -> None:
        super().__init__()
        first, last = (
            nn.Conv2d(width, between, 1, bias=False),
            nn.Conv2d(between, 2 * width, 1, bias=False),
        )
        self.mlp = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        means = (x + skip).mean(dim=(2, 3), keepdim=True)
        weights = torch.stack(self.mlp(means).chunk(2, dim=1)).softmax(dim=0)
        mixed: Tensor = x * weights[0] + skip * weights[1]
        return mixed


class DehazeFormer(nn.Module):
    """Restores (N, 3, H, W) in [−1, 1]; reflects to multiples of 4 itself.

    Of each of the five layers there are the `widths`, the heads of every block (0: no attention),
    the kind of convolution, and the channels of the feed-forward part.
    """

    bands, step = 3, 1

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 48, 24),
        heads: Sequence[Sequence[int]] = (
            (0,) * 6 + (2,) * 2,
            (0,) * 4 + (4,) * 4,
            (0,) * 2 + (6,) * 6,
            (0,) * 4,
            (0,) * 4,
        ),
        kinds: Sequence[str] = ("DWConv",) * _LAYERS,
        fed: Sequence[int] = (48, 192, 384, 96, 48),
        window: int = 8,
        hidden: int = 256,
        fused: Sequence[int] = (6, 4),
    ) -> None:
        super().__init__()
        for number, each in enumerate(heads):
            blocks = (
                DehazeBlock(
                    widths[number],
                    window,
                    window // 2 * (place % 2),
                    attending,
                    hidden,
                    kinds[number],
                    fed[number],
                )
                for place, attending in enumerate(each)
            )
            layer = nn.ModuleDict({"blocks": nn.Sequential(*blocks)})
            self.add_module(f"layer{number + 1}", layer)
        first, second, third, fourth, fifth = widths
        embed = nn.Conv2d(3, first, 3, padding=1, padding_mode="reflect")
        self.patch_embed = nn.ModuleDict({"proj": embed})
        self.patch_merge1 = nn.ModuleDict({"proj": nn.Conv2d(first, second, 2, stride=2)})
        self.patch_merge2 = nn.ModuleDict({"proj": nn.Conv2d(second, third, 2, stride=2)})
        self.skip1, self.skip2 = nn.Conv2d(first, first, 1), nn.Conv2d(second, second, 1)
        self.patch_split1 = self._doubling(third, fourth)
        self.patch_split2 = self._doubling(fourth, fifth)
        self.fusion1, self.fusion2 = SkipFusion(fourth, fused[0]), SkipFusion(fifth, fused[1])
        last = nn.Conv2d(fifth, 4, 3, padding=1, padding_mode="reflect")
        self.patch_unembed = nn.ModuleDict({"proj": nn.Sequential(last)})

    @staticmethod
    def _doubling(inputs: int, outputs: int) -> nn.ModuleDict:
        layers = nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)
        return nn.ModuleDict({"proj": nn.Sequential(*layers)})

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % 4, 0, -height % 4), "reflect")
        first = self._layer(1, self.patch_embed["proj"](x))
        second = self._layer(2, self.patch_merge1["proj"](first))
        y = self._layer(3, self.patch_merge2["proj"](second))
        y = self.patch_split1["proj"](y)
        y = self._layer(4, self.fusion1(y, self.skip2(second)) + y)
        y = self.patch_split2["proj"](y)
        y = self._layer(5, self.fusion2(y, self.skip1(first)) + y)
        y = self.patch_unembed["proj"](y)
        restored: Tensor = y[:, :1] * x - y[:, 1:] + x
        return restored[..., :height, :width]

    def _layer(self, number: int, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(f"layer{number}.blocks")(x)
        return y


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `DehazeFormer` for these weights; raises `BadModel`."""
    if any(".norm2." in name for name in state):
        raise other_network("DehazeFormer", "they normalise feed-forward layers, too")
    layers = [f"layer{number + 1}.blocks" for number in range(_LAYERS)]
    heads = [
        tuple(_heads(state, f"{layer}.{block}") for block in range(layers_in(state, layer)))
        for layer in layers
    ]
    positions = next((t for n, t in state.items() if n.endswith("relative_positions")), None)
    meta = next((t for n, t in state.items() if n.endswith("attn.attn.meta.0.weight")), None)
    sizes: dict[str, Any] = {
        "widths": tuple(state[f"{layer}.0.mlp.mlp.2.weight"].shape[0] for layer in layers),
        "heads": tuple(heads),
        "kinds": tuple(_kind(state, f"{layer}.0.attn.conv") for layer in layers),
        "fed": tuple(state[f"{layer}.0.mlp.mlp.0.weight"].shape[0] for layer in layers),
        "fused": tuple(state[f"fusion{n}.mlp.0.weight"].shape[0] for n in (1, 2)),
    }
    if positions is not None and meta is not None:
        sizes |= {"window": math.isqrt(positions.shape[0]), "hidden": meta.shape[0]}
    return sizes


def _heads(state: Mapping[str, Any], block: str) -> int:
    bias = state.get(f"{block}.attn.attn.meta.2.weight")
    return 0 if bias is None else int(bias.shape[0])


def _kind(state: Mapping[str, Any], part: str) -> str:
    if f"{part}.weight" in state:
        return "DWConv"
    return "Conv" if f"{part}.0.weight" in state else ""
