"""SwinIR, attention within shifted windows, for denoising, JPEG artefacts and super-resolution.

Liang, Cao, Sun, Zhang, Van Gool, Timofte: SwinIR: image restoration using Swin transformer, ICCV
Workshops 2021, arXiv:2108.10257. The authors' code and weights are under the Apache licence 2.0;
this file was written from the paper and the names and shapes of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torch.nn.parameter import Parameter

from napari_restore.models._attention import relative_index
from napari_restore.models._layers import from_windows, shift_mask, to_windows
from napari_restore.models._weights import layers_in, other_network

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of red, green and blue in the authors' training images."""
_JPEG_WINDOW = 7
"""The weights for JPEG artefacts, and no others, have windows of 7 and take values up to 255."""
_FAR = -100.0
"""Added to scores of tokens that are neighbours by the shift alone."""


class WindowAttention(nn.Module):
    """Attention within windows (windows, side², C), with a learned bias for each offset."""

    relative_position_index: Tensor

    def __init__(self, width: int, side: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.relative_position_bias_table = Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_index(side))
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        count, tokens, width = x.shape
        parts = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = (queries * self.scale) @ keys.transpose(-2, -1) + bias
        if apart is not None:
            by_image = scores.reshape(-1, len(apart), self.heads, tokens, tokens)
            scores = (by_image + apart[:, None]).reshape(-1, self.heads, tokens, tokens)
        seen = (scores.softmax(dim=-1) @ values).transpose(1, 2).reshape(x.shape)
        projected: Tensor = self.proj(seen)
        return projected


class TokenFeedForward(nn.Sequential):
    """Two layers of each token by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)


class ShiftedBlock(nn.Module):
    """A block of (N, H, W, C), whose windows of `side` cells are moved by `shift` around the edges."""

    def __init__(
        self, width: int, side: int, shift: int, heads: int, hidden: int, bias: bool
    ) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, side, heads, bias)
        self.mlp = TokenFeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[1:3]
        y, apart = self.norm1(x), None
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
            mask = shift_mask((rows, columns), self.side, self.shift, x.device)
            apart = mask.to(x.dtype) * _FAR
        seen = from_windows(self.attn(to_windows(y, self.side), apart), self.side, rows, columns)
        if self.shift:
            seen = torch.roll(seen, (self.shift, self.shift), (1, 2))
        x = x + seen
        fed: Tensor = self.mlp(self.norm2(x))
        return x + fed


def _convolution(width: int, triple: bool) -> nn.Module:
    """Return the convolution at the end of a group; `triple` is the form with fewer weights."""
    if not triple:
        return nn.Conv2d(width, width, 3, padding=1)
    narrow = width // 4
    return nn.Sequential(
        nn.Conv2d(width, narrow, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, width, 3, padding=1),
    )


class SwinGroup(nn.Module):
    """Blocks, of which every other one is shifted, and a convolution, added to (N, H, W, C)."""

    def __init__(
        self, width: int, depth: int, side: int, heads: int, hidden: int, bias: bool, triple: bool
    ) -> None:
        super().__init__()
        blocks = (
            ShiftedBlock(width, side, side // 2 * (number % 2), heads, hidden, bias)
            for number in range(depth)
        )
        self.residual_group = nn.ModuleDict({"blocks": nn.Sequential(*blocks)})
        self.conv = _convolution(width, triple)

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual_group["blocks"](x).permute(0, 3, 1, 2)
        convolved: Tensor = self.conv(y)
        return convolved.permute(0, 2, 3, 1) + x


def _doubling(width: int, scale: int) -> nn.Sequential:
    """Return the layers that grow (N, width, H, W) by 3 or a power of 2."""
    factors = [3] if scale == 3 else [2] * round(math.log2(scale))
    parts: list[nn.Module] = []
    for factor in factors:
        parts.append(nn.Conv2d(width, factor**2 * width, 3, padding=1))
        parts.append(nn.PixelShuffle(factor))
    return nn.Sequential(*parts)


class SwinIR(nn.Module):
    """(N, bands, H, W) in [0, 1] → (N, bands, scale · H, scale · W).

    It reflects the image at right and bottom to whole windows itself. `upsampler` is ``""`` for
    scale 1, ``"pixelshuffle"``, ``"pixelshuffledirect"`` or ``"nearest+conv"``.
    """

    step = 1
    mean: Tensor

    def __init__(  # noqa: PLR0913 - the sizes that its weights can have
        self,
        bands: int = 3,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        window: int = 8,
        hidden: int = 360,
        scale: int = 1,
        upsampler: str = "",
        features: int = 64,
        bias: bool = True,
        patch_norm: bool = True,
        triple: bool = False,
    ) -> None:
        super().__init__()
        self.bands, self.window, self.scale, self.upsampler = bands, window, scale, upsampler
        self.peak = 255.0 if window == _JPEG_WINDOW and not upsampler else 1.0
        mean = torch.tensor(_MEAN if bands == len(_MEAN) else (0.0,))
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(bands, width, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(width)} if patch_norm else {})
        self.layers = nn.Sequential(
            *(
                SwinGroup(width, depth, window, each, hidden, bias, triple)
                for depth, each in zip(depths, heads, strict=True)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _convolution(width, triple)
        if upsampler == "pixelshuffledirect":
            wide = nn.Conv2d(width, scale**2 * bands, 3, padding=1)
            self.upsample = nn.Sequential(wide, nn.PixelShuffle(scale))
            return
        if upsampler:
            before = nn.Conv2d(width, features, 3, padding=1)
            self.conv_before_upsample = nn.Sequential(before, nn.LeakyReLU())
        if upsampler == "pixelshuffle":
            self.upsample = _doubling(features, scale)
        elif upsampler == "nearest+conv":
            self.conv_up1, self.conv_up2, self.conv_hr = (
                nn.Conv2d(features, features, 3, padding=1) for _ in range(3)
            )
            self.lrelu = nn.LeakyReLU(0.2)
        self.conv_last = nn.Conv2d(features if upsampler else width, bands, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.window, 0, -height % self.window), "reflect")
        x = (x - self.mean) * self.peak
        first = self.conv_first(x)
        tokens = first.permute(0, 2, 3, 1)
        if "norm" in self.patch_embed:
            tokens = self.patch_embed["norm"](tokens)
        seen = self.norm(self.layers(tokens)).permute(0, 3, 1, 2)
        y = self._enlarged(self.conv_after_body(seen) + first)
        if not self.upsampler:
            y = x + y
        y = y / self.peak + self.mean
        return y[..., : height * self.scale, : width * self.scale]

    def _enlarged(self, y: Tensor) -> Tensor:
        """Return the bands of features (N, C, H, W), at the scale."""
        made: Tensor
        if self.upsampler == "pixelshuffledirect":
            made = self.upsample(y)
            return made
        if self.upsampler:
            y = self.conv_before_upsample(y)
        if self.upsampler == "pixelshuffle":
            y = self.upsample(y)
        elif self.upsampler == "nearest+conv":
            for layer in (self.conv_up1, self.conv_up2):
                y = self.lrelu(layer(interpolate(y, scale_factor=2.0, mode="nearest")))
            y = self.lrelu(self.conv_hr(y))
        made = self.conv_last(y)
        return made


def renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` without the masks of the training's image size, which are no weights."""
    return {name: each for name, each in state.items() if not name.endswith(".attn_mask")}


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `SwinIR` for these weights; raises `BadModel`."""
    if "absolute_pos_embed" in state:
        raise other_network("SwinIR", "they know the places of an image of one size")
    width, bands = state["conv_first.weight"].shape[:2]
    groups = [
        f"layers.{number}.residual_group.blocks" for number in range(layers_in(state, "layers"))
    ]
    block = f"{groups[0]}.0"
    offsets = state[f"{block}.attn.relative_position_bias_table"].shape[0]
    upsampler, scale, features = _upsampler(state, bands)
    return {
        "bands": bands,
        "width": width,
        "depths": tuple(layers_in(state, group) for group in groups),
        "heads": tuple(
            state[f"{group}.0.attn.relative_position_bias_table"].shape[1] for group in groups
        ),
        "window": (math.isqrt(offsets) + 1) // 2,
        "hidden": state[f"{block}.mlp.fc1.weight"].shape[0],
        "scale": scale,
        "upsampler": upsampler,
        "features": features,
        "bias": f"{block}.attn.qkv.bias" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
        "triple": "conv_after_body.0.weight" in state,
    }


def _upsampler(state: Mapping[str, Any], bands: int) -> tuple[str, int, int]:
    """Return the kind of upsampler, the scale, and the channels of its features."""
    if "conv_up1.weight" in state:
        return "nearest+conv", 4, state["conv_up1.weight"].shape[0]
    if "conv_before_upsample.0.weight" in state:
        factors = [
            math.isqrt(each.shape[0] // each.shape[1])
            for name, each in state.items()
            if name.startswith("upsample.") and each.ndim == 4
        ]
        features = state["conv_before_upsample.0.weight"].shape[0]
        return "pixelshuffle", math.prod(factors), features
    if "upsample.0.weight" in state:
        wide = state["upsample.0.weight"].shape[0]
        return "pixelshuffledirect", math.isqrt(wide // bands), 64
    return "", 1, 64
