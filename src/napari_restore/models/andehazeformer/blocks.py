"""Tokens from pixels, and the blocks that work on them: adaptive normalisation, attention, MLP.

Maps of tokens are (N, h, w, C) throughout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    layer_norm,
    pad,
    pixel_unshuffle,
    scaled_dot_product_attention,
    silu,
)

from napari_restore.models._attention import HeadOutputs, relative_index
from napari_restore.models._layers import from_windows, to_windows
from napari_restore.models.andehazeformer.cache import Cache
from napari_restore.models.andehazeformer.config import BANDS, PLANES, AnDehazeConfig
from napari_restore.models.andehazeformer.sphere import ChannelScale, SphereLinear, unit

LIFT = 3.0
"""Constant beside a patch's embedding: unit length alone would erase brightness and contrast,
which are what shows haze."""


class Embedding(nn.Module):
    """h = Norm(W_l Norm([W_e p; 3])) of patches p; in the twin without Norm."""

    # A patch holds the planes of the view in `stride`² pixels, and the darkest value of each band:
    # linear layers hardly learn a minimum, and the darkest pixels show haze best (He et al. 2011).
    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.stride, self.normalised = config.stride, config.normalised
        inputs, width, free = PLANES * config.stride**2 + BANDS, config.width, not config.normalised
        # A column is the embedding of one pixel.
        self.patch = SphereLinear(inputs, width, columns=True, free=free)
        self.lift = SphereLinear(width + 1, width, free=free)

    def forward(self, planes: Tensor) -> Tensor:
        """Return tokens (N, H / stride, W / stride, C) of planes (N, 7, H, W)."""
        patches = pixel_unshuffle(planes, self.stride)
        cells = torch.unflatten(pixel_unshuffle(planes[:, :BANDS], self.stride), 1, (BANDS, -1))
        patches = torch.cat([patches, cells.amin(2)], 1).permute(0, 2, 3, 1)
        embedded = self.patch(patches)
        lifted = torch.cat([embedded, embedded.new_full((*embedded.shape[:3], 1), LIFT)], -1)
        out: Tensor = self.lift(unit(lifted) if self.normalised else lifted)
        return unit(out) if self.normalised else out


def filled(x: Tensor, valid: Tensor, side: int) -> Tensor:
    """Return images (N, C, H, W) whose invalid pixels have the mean of the valid ones around them.

    That of their cell of `side`² pixels, 0 if it has none. `valid` (N, 1, H, W) bool.
    """
    if bool(valid.all()):
        return x
    known = valid.to(x.dtype)
    mean = avg_pool2d(x.where(valid, 0.0), side) / avg_pool2d(known, side).clamp(min=1e-6)
    return x.where(valid, mean.repeat_interleave(side, 2).repeat_interleave(side, 3))


@torch.no_grad()
def ranks_of(view: Tensor, valid: Tensor, footprint: int) -> Tensor:
    """Return (N, 3, H / footprint, W / footprint) float32 of a view (N, 7 …, H, W).

    For each candidate of the cache its mean transmission, its contrast (the standard deviation of
    luminance), and its valid share; over valid pixels, 0 where there is none.
    """
    # Sums in float64, rounded to float32: the same bits however the image is tiled.
    known = valid.double()
    luminance = view[:, :BANDS].double().mean(1, keepdim=True)
    transmission = view[:, 2 * BANDS : PLANES].double()
    planes = torch.cat([known, transmission * known, luminance * known], 1)
    share, haze, light = torch.split(avg_pool2d(planes, footprint), 1, 1)
    some = share.clamp(min=1e-9)
    mean = (light / some).repeat_interleave(footprint, 2).repeat_interleave(footprint, 3)
    square = avg_pool2d((luminance - mean).square() * known, footprint) / some
    return torch.cat([haze / some, square.sqrt(), share], 1).float()


STEP = 0.05
"""Initial share of a block's result in its output (nGPT)."""


class Guide(NamedTuple):
    """What the blocks take from the overview, for N images, or one for all."""

    strength: Tensor
    """(N,) c_a."""
    texture: Tensor
    """(N, C) r."""
    tint: Tensor
    """(N, C) b."""


class AdaptiveNorm(nn.Module):
    """Norm(h ⊙ (1 + Norm(r)) + τ · Norm(b)), where a block reads its input.

    r and b (N or 1, C) come from the estimator: r strengthens texture, b offsets the colour of the
    airlight. Norm is the unit length, in the twin LayerNorm as in the paper's LN'. τ starts at 0.
    """

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.normalised = config.normalised
        self.tau = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor, guide: Guide) -> Tensor:
        gain = (1 + unit(guide.texture))[:, None, None].to(h)
        offset = (self.tau * unit(guide.tint))[:, None, None].to(h)
        adapted = h * gain + offset
        return unit(adapted) if self.normalised else layer_norm(adapted, adapted.shape[-1:])


class ResidualStep(nn.Module):
    """h ← Norm(h + α ⊙ (Norm(change) − h)); in the twin h + change."""

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.alpha = None
        if config.normalised:
            self.alpha = ChannelScale(config.width, STEP, config.width**-0.5)

    def forward(self, h: Tensor, change: Tensor) -> Tensor:
        if self.alpha is None:
            return h + change
        return unit(h + self.alpha().abs() * (unit(change) - h))


class GatedMLP(nn.Module):
    """W_o (u ⊙ SiLU(v)) of [u, v] = s_uv ⊙ W_uv x; v is scaled by √C on the sphere."""

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        free, width, hidden = not config.normalised, config.width, config.hidden
        self.into = SphereLinear(width, 2 * hidden, free=free)
        self.out = SphereLinear(hidden, width, columns=True, free=free)
        self.scale = None if free else ChannelScale(2 * hidden, 1.0, 1.0)
        self.gain = width**0.5

    def forward(self, x: Tensor) -> Tensor:
        both = self.into(x)
        if self.scale is not None:
            both = both * (self.scale() * self.gain)
        u, v = both.chunk(2, -1)
        out: Tensor = self.out(u * silu(v))
        return out


class AttentionProjections(nn.Module):
    """Projections and logits that window and cached attention share.

    Queries and keys have unit length in every head, times s_qk; logits are √d · q · k, so that
    |logit| ≤ √d · max(s_qk)². In the twin q · k / √d.
    """

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        width, free = config.width, not config.normalised
        self.heads, self.depth = config.heads, width // config.heads
        self.query = SphereLinear(width, width, free=free)
        self.key_value = SphereLinear(width, 2 * width, free=free)
        self.out = SphereLinear(width, width, columns=True, free=free)
        self.s_qk = None if free else ChannelScale(width, 1.0, width**-0.5)

    @property
    def logit_scale(self) -> float:
        """The factor of q · k."""
        return math.sqrt(self.depth) if self.s_qk is not None else 1 / math.sqrt(self.depth)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys, of unit length in every head but for the twin, and values: (…, C) each."""
        keys, values = self.key_value(x).chunk(2, -1)
        return self.in_heads(keys), values

    def in_heads(self, x: Tensor) -> Tensor:
        """Return (…, C) with unit length in every head; in the twin unchanged."""
        if self.s_qk is None:
            return x
        return unit(torch.unflatten(x, -1, (self.heads, self.depth))).flatten(-2)

    def scaled(self, x: Tensor) -> Tensor:
        """Return unit queries or keys times s_qk."""
        if self.s_qk is None:
            return x
        factor: Tensor = self.s_qk()
        return x * factor.to(x)

    def split(self, x: Tensor) -> Tensor:
        """Return (N, heads, T, d) of (N, T, C)."""
        return torch.unflatten(x, -1, (self.heads, self.depth)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """Return scaled queries (N, heads, T, d) of (N, T, C)."""
        return self.split(self.scaled(self.in_heads(self.query(x))))


class WindowAttention(AttentionProjections):
    """Attention within windows, with a learned bias for relative positions."""

    index: Tensor

    def __init__(self, config: AnDehazeConfig, shift: int) -> None:
        super().__init__(config)
        self.side, self.shift = config.window, shift
        self.bias_table = nn.Parameter(torch.empty((2 * self.side - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("index", relative_index(self.side), persistent=False)

    def forward(self, x: Tensor, origin: tuple[int, int], known: Tensor) -> Tensor:
        """Return (N, h, w, C) → the same; `origin` in tokens, `known` (N, h, w) bool."""
        windows, joined = self._joined(x, origin, known)
        out: Tensor = self.out(joined)
        return windows.join(out)

    def head_outputs(self, x: Tensor, origin: tuple[int, int], known: Tensor) -> HeadOutputs:
        """Return what the heads put out for one map (1, h, w, C); the rest as in `forward`."""
        windows, joined = self._joined(x, origin, known)
        return HeadOutputs.split(windows.join(joined)[0], self.out.weight, self.heads)

    def _joined(self, x: Tensor, origin: tuple[int, int], known: Tensor) -> tuple[Windows, Tensor]:
        """Return the windows of a map, and what their heads put out, head after head."""
        windows = windows_of((x.shape[1], x.shape[2]), origin, self.side, self.shift)
        tokens = windows.cut(x)
        keys, values = self.keys_and_values(tokens)
        bias = self.bias_table[self.index].permute(2, 0, 1)[None]
        allowed = mask_of(windows, known)
        if allowed is not None:
            bias = torch.where(allowed, bias, -torch.inf)
        queries = self.queries(tokens)
        attended = scaled_dot_product_attention(
            queries,
            self.split(self.scaled(keys)),
            self.split(values),
            attn_mask=bias.to(queries.dtype),
            scale=self.logit_scale,
        )
        return windows, attended.transpose(1, 2).flatten(2)

    def row(
        self, x: Tensor, origin: tuple[int, int], known: Tensor, query: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return the attention of token `query` (row, column) of a map (h, w, C), from its window.

        It is the softmax weights (heads, side²) and the tokens (side², 2) they belong to, as rows
        and columns of the map. Tokens beyond the map, and those that are not `known` (h, w) bool,
        are (−1, −1), their weights 0; all are where the query itself is not known.
        """
        shape = (x.shape[0], x.shape[1])
        cells, number = window_at(query, shape, origin, self.side, self.shift)
        cells = cells.to(x.device)
        rows, columns = cells.clamp(min=0).unbind(1)
        allowed = (cells[:, 0] >= 0) & known[rows, columns] & known[query]
        tokens = x[rows, columns][None]
        queries, keys = (
            self.queries(tokens),
            self.split(self.scaled(self.keys_and_values(tokens)[0])),
        )
        logits = self.logit_scale * (queries[0, :, number, None] @ keys[0].transpose(1, 2))[:, 0]
        logits = logits + self.bias_table[self.index[number]].T
        weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1).where(allowed, 0.0)
        return weights, cells.masked_fill(~allowed[:, None], -1)


class CachedAttention(AttentionProjections):
    """Attention of every token to the cache of its image, and to nothing else."""

    def forward(self, x: Tensor, caches: list[Cache]) -> Tensor:
        """Return (N, h, w, C) → the same; one cache for all N, or one each."""
        out: Tensor = self.out(self._joined(x, caches))
        return torch.unflatten(out, 1, x.shape[1:3])

    def head_outputs(self, x: Tensor, cache: Cache) -> HeadOutputs:
        """Return what the heads put out for one map (1, h, w, C)."""
        joined = torch.unflatten(self._joined(x, [cache])[0], 0, x.shape[1:3])
        return HeadOutputs.split(joined, self.out.weight, self.heads)

    def _joined(self, x: Tensor, caches: list[Cache]) -> Tensor:
        """Return what the heads put out for maps (N, h, w, C), head after head: (N, h · w, C)."""
        tokens = x.flatten(1, 2)
        queries = self.queries(tokens)
        parts = [queries] if len(caches) == 1 else list(torch.split(queries, 1))
        attended = torch.cat(
            [self._attend(part, cache) for part, cache in zip(parts, caches, strict=True)]
        )
        return attended.transpose(1, 2).flatten(2)

    def rows(self, x: Tensor, cache: Cache) -> Tensor:
        """Return the attention of tokens (T, C), as this layer reads them: (heads, T, K).

        Column j belongs to token j of the cache and what was merged into it. A row sums to 1.
        """
        queries = self.queries(x[None])[0]
        keys = self.split(self.scaled(cache.key.to(x))[None])[0]
        logits = self.logit_scale * queries @ keys.transpose(1, 2)
        return (logits + cache.weight.to(x).log()).softmax(-1)

    def _attend(self, queries: Tensor, cache: Cache) -> Tensor:
        if not len(cache.weight):
            # An image of a batch without a valid pixel.
            return torch.zeros_like(queries)
        count = len(queries)
        keys = self.split(self.scaled(cache.key.to(queries))[None])
        values = self.split(cache.value.to(queries)[None])
        # Every merged token keeps its share of the softmax.
        mass = cache.weight.log().to(queries.dtype)[None, None, None]
        return scaled_dot_product_attention(
            queries,
            keys.expand(count, -1, -1, -1),
            values.expand(count, -1, -1, -1),
            attn_mask=mass.expand(count, 1, queries.shape[2], -1),
            scale=self.logit_scale,
        )


class AnDehazeBlock(nn.Module):
    """Attention, then MLP, each reading an adaptive norm of the tokens and taking a `ResidualStep`."""

    def __init__(self, config: AnDehazeConfig, attention: AttentionProjections) -> None:
        super().__init__()
        self.attention = attention
        self.norm1, self.norm2 = AdaptiveNorm(config), AdaptiveNorm(config)
        self.step1, self.step2 = ResidualStep(config), ResidualStep(config)
        self.mlp = GatedMLP(config)

    def transform(self, h: Tensor, guide: Guide) -> Tensor:
        """Return the tokens after the MLP alone."""
        out: Tensor = self.step2(h, self.mlp(self.norm2(h, guide)))
        return out


class WindowBlock(AnDehazeBlock):
    """Tokens attend to their window."""

    attention: WindowAttention

    def forward(self, h: Tensor, guide: Guide, origin: tuple[int, int], known: Tensor) -> Tensor:
        """Return (N, h, w, C); `origin` and `known` as of the attention."""
        read = self.norm1(h, guide)
        h = self.step1(h, self.attention(read, origin, known))
        return self.transform(h, guide)

    def row(
        self,
        h: Tensor,
        guide: Guide,
        origin: tuple[int, int],
        known: Tensor,
        query: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Return the attention of a token of one map (1, h, w, C), see `WindowAttention.row`."""
        return self.attention.row(self.norm1(h, guide)[0], origin, known, query)

    def head_outputs(
        self, h: Tensor, guide: Guide, origin: tuple[int, int], known: Tensor
    ) -> HeadOutputs:
        """Return what the heads put out for one map (1, h, w, C); `known` (1, h, w) bool."""
        return self.attention.head_outputs(self.norm1(h, guide), origin, known)


class GlobalBlock(AnDehazeBlock):
    """Tokens attend to the cache of the whole image; each by itself."""

    attention: CachedAttention

    def forward(self, h: Tensor, guide: Guide, caches: list[Cache]) -> Tensor:
        """Return (N, h, w, C). Without tokens in any cache only the MLP acts."""
        if any(len(cache.weight) for cache in caches):
            h = self.step1(h, self.attention(self.norm1(h, guide), caches))
        return self.transform(h, guide)

    def row(self, h: Tensor, guide: Guide, cache: Cache, query: tuple[int, int]) -> Tensor:
        """Return the attention (heads, K) of token `query` of one map (1, h, w, C) to the cache."""
        row, column = query
        own = h[:, row : row + 1, column : column + 1]
        return self.attention.rows(self.norm1(own, guide)[0, 0], cache)[:, 0]

    def head_outputs(self, h: Tensor, guide: Guide, cache: Cache) -> HeadOutputs:
        """Return what the heads put out for one map (1, h, w, C) and a cache."""
        return self.attention.head_outputs(self.norm1(h, guide), cache)

    def candidates(
        self, h: Tensor, guide: Guide, share: Tensor, pool: int
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values (N, h / pool, w / pool, C) of pooled tokens.

        `share` (N, h, w) of each token's pixels that are valid: pooling is weighted by it.
        """
        read = self.norm1(h, guide)
        count, height, width, channels = read.shape
        cells = (count, height // pool, pool, width // pool, pool)
        weights = share.to(read).reshape(*cells, 1)
        total = (read.reshape(*cells, channels) * weights).sum((2, 4))
        mean = total / weights.sum((2, 4)).clamp(min=1e-6)
        if self.attention.s_qk is not None:
            mean = unit(mean)
        return self.attention.keys_and_values(mean)


class Windows(NamedTuple):
    """How a map of tokens is cut into windows of `side`² tokens."""

    side: int
    beyond: tuple[int, int, int, int]
    """Tokens missing at left, right, top and bottom: beyond the tile, or the image."""
    rows: int
    """Those of the tokens in all windows together."""
    columns: int

    def cut(self, x: Tensor) -> Tensor:
        """Return windows (N · windows, side², C) of a map (N, h, w, C), zeros beyond it."""
        grown = pad(x, (0, 0, *self.beyond)) if any(self.beyond) else x
        return to_windows(grown, self.side)

    def join(self, windows: Tensor) -> Tensor:
        """Return the map (N, h, w, C) of these windows."""
        grown = from_windows(windows, self.side, self.rows, self.columns)
        left, right, top, bottom = self.beyond
        return grown[:, top : grown.shape[1] - bottom, left : grown.shape[2] - right]


def windows_of(
    shape: tuple[int, int], origin: tuple[int, int], side: int, shift: int = 0
) -> Windows:
    """Return the windows of a map of `shape` (h, w) whose first token is `origin` of the image.

    Windows begin at multiples of `side` from the image's origin, moved up and left by `shift`.
    """
    top, left = ((at + shift) % side for at in origin)
    bottom, right = (
        -(length + before) % side for length, before in zip(shape, (top, left), strict=True)
    )
    rows, columns = shape[0] + top + bottom, shape[1] + left + right
    return Windows(side, (left, right, top, bottom), rows, columns)


def window_at(
    query: tuple[int, int],
    shape: tuple[int, int],
    origin: tuple[int, int],
    side: int,
    shift: int,
) -> tuple[Tensor, int]:
    """Return the tokens (side², 2) of the window of token `query`, and its number among them.

    Rows and columns of the map that `windows_of` divides, (−1, −1) of those beyond it.
    """
    lines, number = [], 0
    for at, length, first in zip(query, shape, origin, strict=True):
        within = (at + first + shift) % side
        number = number * side + within
        line = torch.arange(at - within, at - within + side)
        lines.append(line.masked_fill((line < 0) | (line >= length), -1))
    cells = torch.cartesian_prod(*lines)
    return cells.masked_fill((cells < 0).any(1, keepdim=True), -1), number


def mask_of(windows: Windows, known: Tensor) -> Tensor | None:
    """Return what tokens may attend to, (N · windows, 1, 1 or side², side²) bool; None: everything."""
    if not any(windows.beyond) and bool(known.all()):
        return None
    # Tokens that are not `known` (N, h, w) may attend to all, so that no row is empty; their
    # results do not count.
    inside = windows.cut(known[..., None].to(torch.uint8))[..., 0].bool()
    return (inside[:, None, :] | ~inside[:, :, None])[:, None]
