"""Hierarchical multi-head attention between channels, as functions that tiles can share.

An attention layer judges a pixel by sums over all pixels. So a layer has four parts: `local` maps a
tile with a halo of one cell; `count` adds up its cells; `finalize` turns the sums of the whole image
into attention; `attend` uses it on tiles again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._layers import is_exporting
from napari_restore.models.hint.blocks import depthwise, pointwise
from napari_restore.models.hint.config import HEADS, HintConfig, head_sizes

SIDE = 16
"""Cells along a side of the squares whose products are summed in the map's own precision, before
float64. Tiles are whole squares at every scale: what a sum is rounded to does not follow their size."""
SMALLEST_NORM = 1e-12


class AttentionSums(NamedTuple):
    """Sums over the cells of each of N images, float64; those of tiles are added up."""

    cells: Tensor
    """(N,)."""
    q: Tensor
    """(N, C): of the queries."""
    qq: Tensor
    """(N, C, C): of the products of queries; without gradient, as only the order needs them."""
    squares: Tensor
    """(N, 2, C): of the squares of queries and of keys."""
    qk: Tensor
    """(N, C, C): of the products of queries and keys."""

    def plus(self, other: AttentionSums) -> AttentionSums:
        """Return the sums over both parts of the images."""
        return AttentionSums(*(a + b for a, b in zip(self, other, strict=True)))


class LayerStatistics(NamedTuple):
    """What a layer knows of the whole of each of N images."""

    order: Tensor
    """(N, C) int64: the channels, most correlated first; slots of the output are in this order."""
    correlation: Tensor
    """(N, C) float64: how much the queries of each correlate with those of all channels, in `order`."""
    attention: Tensor
    """(N, C, C): attention of each head between its channels, modulated by the cache, as one matrix from
    channels as they are to slots in `order`."""
    scales: Tensor
    """(N, 2, C): factors of queries and keys in the intra-layer cache."""
    logits: Tensor
    """(N, C, C): what the softmax of each head is of, arranged like `attention`; 0 between heads."""
    intra: Tensor
    """(N,): what the inverse norms were multiplied by in `scales`."""


Local: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values (N, C, h, w)."""


class HierarchicalAttention(nn.Module):
    """Attention between the channels of maps (N, C, H, W).

    Channels are grouped into heads of different sizes by how much they correlate with all others;
    attention is modulated by that of earlier layers, and the output by the layer's own queries and
    keys. The output stays in the order of the groups, as published. Source: HINT (Zhou et al., ICCV
    2025).
    """

    def __init__(self, channels: int, config: HintConfig) -> None:
        super().__init__()
        self.channels = channels
        self.sizes = head_sizes(channels, bool(config.equal_heads))
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = depthwise(3 * channels)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)
        self.has_inter = bool(config.inter)
        if config.intra:
            self.intra_modulator = IntraModulator(channels)
        if config.inter:
            for number, size in enumerate(self.sizes, 1):
                self.add_module(f"inter_modulator{number}", InterModulator(size))
        self.left_out: frozenset[int] = frozenset()
        """Heads that add nothing."""
        self.regroup = True
        self.rounding: Rounding = "trunc"

    @property
    def parts(self) -> tuple[slice, ...]:
        """The slots of each head."""
        ends = list(accumulate(self.sizes))
        return tuple(slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True))

    def local(self, x: Tensor) -> Local:
        """Return queries, keys and values (N, C, h, w) of a normed map; it needs a halo of 1."""
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return q, k, v

    def count(self, q: Tensor, k: Tensor, weight: Tensor | None = None) -> AttentionSums:
        """Return the sums over cells, each with its `weight` (N, 1, h, w) from 0 to 1."""
        # Half precision would lose the sums.
        precision = torch.promote_types(q.dtype, torch.float32)
        cells = torch.ones(len(q), dtype=torch.float64, device=q.device) * (q.shape[2] * q.shape[3])
        if weight is not None:
            cells = weight.double().sum((1, 2, 3))

        def squares(x: Tensor, y: int) -> Tensor:
            return squares_of(x[:, :, y : y + SIDE].to(precision))

        if weight is None and is_exporting():
            # In a graph for images of any size, all cells are one square.
            q, k = (rows(x).double()[:, None] for x in (q, k))
            return _counts_of(q, k, None)._replace(cells=cells)
        with _without_autocast(q.device.type):
            bands = (
                _counts_of(
                    squares(q, y), squares(k, y), None if weight is None else squares(weight, y)
                )
                for y in range(0, q.shape[2], SIDE)
            )
            return reduce(AttentionSums.plus, bands)._replace(cells=cells)

    def finalize(
        self,
        counts: AttentionSums,
        cache: Tensor | None,
        intra_scale: Tensor | None = None,
        order: Tensor | None = None,
    ) -> tuple[LayerStatistics, Tensor | None]:
        """Return the statistics of the images, and the inter-layer cache (N, C, C) after this layer.

        `intra_scale` (N,) is a further factor of the intra-layer cache. An `order` (N, C) is taken
        in place of that of the counts.
        """
        with torch.no_grad():
            mean = correlation(counts).mean(-1)
            if order is None:
                order = self._order(mean)
            mean = mean.gather(1, order)
        inverse = _inverse_norms(counts.squares)
        # From sums in float64 on: all of this is a few small matrices.
        cosine = inverse[:, 0, :, None] * counts.qk * inverse[:, 1, None, :]
        rows = order[:, :, None].expand(-1, -1, self.channels)
        cosine = cosine.gather(1, rows).gather(2, rows.transpose(1, 2))
        dtype = self.temperature.dtype
        logits = [
            temperature * cosine[:, part, part].to(dtype)
            for part, temperature in zip(self.parts, self.temperature, strict=True)
        ]
        heads = [each.softmax(-1) for each in logits]
        if self.has_inter:
            if cache is not None:
                cache = resized(cache, self.channels)
                heads = [
                    self.get_submodule(f"inter_modulator{n}")(head, cache)
                    for n, head in enumerate(heads, 1)
                ]
            # Training follows neither cache, as published; a gradient of the image does.
            seen = tuple(head.detach() if self.training else head for head in heads)
            cache = updated(cache, seen, self.channels, self.rounding)
        intra = torch.ones_like(counts.cells) if intra_scale is None else intra_scale
        layer_statistics = LayerStatistics(
            order,
            mean,
            _as_one(heads, order, self.sizes),
            (inverse * intra[:, None, None]).to(dtype),
            _as_one(logits, order, self.sizes),
            intra.to(dtype),
        )
        return layer_statistics, cache

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer_statistics: LayerStatistics) -> Tensor:
        """Return the layer's output (N, C, h, w) of queries, keys and values; it needs no halo."""
        out = self.mix(v, layer_statistics)
        change = self.change(out, q, k, layer_statistics)
        projected: Tensor = self.project_out(out if change is None else out + change)
        return projected

    def mix(self, v: Tensor, layer_statistics: LayerStatistics) -> Tensor:
        """Return values (N, C, h, w) mixed by the attention of their head, in the order of slots."""
        mixed = rows(v) @ layer_statistics.attention.to(v.dtype).transpose(1, 2)
        for head in self.left_out:
            mixed[..., self.parts[head]] = 0
        return maps(mixed, v)

    def change(
        self, out: Tensor, q: Tensor, k: Tensor, layer_statistics: LayerStatistics
    ) -> Tensor | None:
        """Return what the intra-layer cache adds to mixed values; None in a layer without it."""
        if not hasattr(self, "intra_modulator"):
            return None
        added: Tensor = self.intra_modulator(out + self._intra(q, k, layer_statistics))
        return added

    def _intra(self, q: Tensor, k: Tensor, layer_statistics: LayerStatistics) -> Tensor:
        """Return the intra-layer cache: normed queries plus normed keys, in the order of slots."""
        scales = layer_statistics.scales.to(q.dtype)
        if self.training:
            q, k, scales = q.detach(), k.detach(), scales.detach()
        scale_q, scale_k = scales[:, :, None].unbind(1)
        both = rows(q) * scale_q + rows(k) * scale_k
        return maps(both.gather(2, layer_statistics.order[:, None].expand(both.shape)), q)

    def _order(self, mean: Tensor) -> Tensor:
        """Return the order of channels by their mean correlation (N, C)."""
        if not self.regroup:
            return torch.arange(self.channels, device=mean.device).expand(len(mean), -1)
        return sorted_down(mean)


def sorted_down(values: Tensor) -> Tensor:
    """Return the order (N, C) of values (N, C), the largest first, equal ones as they are."""
    # By comparing all with each other: programs for ONNX have no stable sort.
    here, other = values[:, :, None], values[:, None, :]
    number = torch.arange(values.shape[1], device=values.device)
    is_before = (other > here) | ((other == here) & (number < number[:, None]))
    rank = is_before.sum(-1)
    return torch.zeros_like(rank).scatter(1, rank, number.expand_as(rank))


def correlation(counts: AttentionSums) -> Tensor:
    """Return Pearson's correlation (N, C, C) of the queries' channels, 0 for constant ones."""
    cells = counts.cells.clamp(min=1)[:, None, None]
    covariance = counts.qq - counts.q[:, :, None] * counts.q[:, None, :] / cells
    variance = _diagonal(covariance)
    # A constant channel's variance is what rounding of the sums leaves.
    varies = variance > 1e-7 * _diagonal(counts.qq)
    inverse = torch.where(varies, variance.clamp(min=1e-300).rsqrt(), 0.0)
    return (inverse[:, :, None] * covariance * inverse[:, None, :]).clamp(-1, 1)


def _diagonal(matrices: Tensor) -> Tensor:
    """Return the diagonals (N, C) of matrices (N, C, C)."""
    if not is_exporting():
        return matrices.diagonal(dim1=1, dim2=2)
    # Programs for ONNX make a branch of the other.
    ones = torch.eye(int(matrices.shape[-1]), dtype=matrices.dtype, device=matrices.device)
    return (matrices * ones).sum(-1)


def _without_autocast(device: str) -> AbstractContextManager[None]:
    if not torch.amp.is_autocast_available(device):
        return nullcontext()  # shapes alone, on the device "meta"
    return torch.autocast(device, enabled=False)


def _counts_of(q: Tensor, k: Tensor, weight: Tensor | None) -> AttentionSums:
    """Return the sums over squares (N, squares, cells, C), without the number of cells."""
    q_counted, k_counted = (q, k) if weight is None else (q * weight, k * weight)
    with torch.no_grad():
        sums, products = _sum_of(q_counted), products_of(q_counted, q)
    squares = torch.stack([_sum_of(q_counted * q), _sum_of(k_counted * k)], dim=1)
    none = q.new_zeros(len(q), dtype=torch.float64)
    return AttentionSums(none, sums, products, squares, products_of(q_counted, k))


def _sum_of(x: Tensor) -> Tensor:
    """Return the sums (N, C) of squares (N, squares, cells, C), in float64."""
    return x.sum(2).double().sum(1)


def products_of(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums (N, C, C) of products of squares (N, squares, cells, C), in float64."""
    images, number = a.shape[:2]
    a, b = a.flatten(0, 1), b.flatten(0, 1)
    if len(a) == 1:
        # Threads would share the matrix, and sum in another order.
        a, b = (functional.pad(x, (0, 0, 0, 0, 0, 1)) for x in (a, b))
    products = torch.bmm(a.transpose(1, 2), b)[: images * number]
    return products.double().view(images, number, *products.shape[1:]).sum(1)


def squares_of(x: Tensor) -> Tensor:
    """Return a band of maps (N, C, up to `SIDE`, w) as squares (N, squares, cells, C), zeros beyond."""
    below, right = SIDE - x.shape[2], -x.shape[3] % SIDE
    if below or right:
        x = functional.pad(x, (0, right, 0, below))
    images, channels, _, width = x.shape
    cells = x.reshape(images, channels, SIDE, width // SIDE, SIDE).permute(0, 3, 2, 4, 1)
    return cells.reshape(images, width // SIDE, SIDE**2, channels)


def rows(x: Tensor) -> Tensor:
    """Return maps (N, C, H, W) as (N, H · W, C); in channels-last order without a copy."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def maps(x: Tensor, like: Tensor) -> Tensor:
    """Return (N, H · W, C) as maps (N, C, H, W) of the size of `like`, in channels-last order."""
    return x.reshape(len(x), *like.shape[2:], -1).permute(0, 3, 1, 2)


def _inverse_norms(squares: Tensor) -> Tensor:
    """Return 1 over the norms; 0 where a channel is 0 in all cells that count."""
    # Without `where` before the root, its gradient at 0 would be NaN.
    known = squares > 0
    norms = squares.where(known, 1.0).sqrt().clamp(min=SMALLEST_NORM)
    return (1 / norms).where(known, 0.0)


def _as_one(heads: list[Tensor], order: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the heads' attention as one matrix (N, C, C), columns back in the channels' order."""
    rows, start, width = [], 0, sum(sizes)
    for head, size in zip(heads, sizes, strict=True):
        rows.append(functional.pad(head, (start, width - start - size)))
        start += size
    sorted_matrix = torch.cat(rows, dim=1)
    back = order.argsort(dim=-1)[:, None, :].expand(-1, width, -1)
    return sorted_matrix.gather(2, back)


Rounding = Literal["trunc", "floor", "none"]
DECAY = 0.9
"""Share of the cache that stays when a layer adds its attention."""


class IntraModulator(nn.Module):
    """Change of an attention layer's output O (N, C, H, W) by its queries and keys T.

    Of z = O + T gated by itself, through C/2 channels, pixel by pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(channels, channels // 2, 1)
        self.up = nn.Conv1d(channels // 2, channels, 1)
        self.gatingConv = nn.Conv1d(channels, channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        gated = functional.gelu(pointwise(self.gatingConv, z)) * z
        return pointwise(self.up, pointwise(self.down, gated))


class InterModulator(nn.Module):
    """Change of a head's attention A (N, c, c) by the cache of earlier layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_width = nn.Conv1d(channels, 2 * channels, 1)
        self.gatingConv = nn.Conv1d(channels, channels, 1)

    def forward(self, attention: Tensor, cache: Tensor) -> Tensor:
        """Return the modulated attention; `cache` (N, C, C) is that of the layer's channels."""
        pooled = block_means(cache, self.gatingConv.in_channels)
        scale, shift = self.conv_width(pooled + attention).chunk(2, dim=1)
        change = attention * scale + shift
        out: Tensor = attention + change * functional.gelu(self.gatingConv(change))
        return out


def resized(cache: Tensor, channels: int) -> Tensor:
    """Return a cache (N, C', C') for a layer of so many channels: block means, or repeated."""
    if cache.shape[-1] == channels:
        return cache
    return block_means(cache, channels)


def block_means(cache: Tensor, side: int) -> Tensor:
    """Return the means (N, side, side) of the blocks of a cache, which may overlap by a row."""
    if not is_exporting():
        return functional.adaptive_avg_pool2d(cache, side)
    # ONNX pools to divisors of the size only.
    size = int(cache.shape[-1])
    ends = [(n * size // side, -(-(n + 1) * size // side)) for n in range(side)]
    shares = [[(low <= k < high) / (high - low) for k in range(size)] for low, high in ends]
    rows = torch.tensor(shares, dtype=cache.dtype, device=cache.device)
    return rows @ cache @ rows.T


def updated(
    cache: Tensor | None, heads: tuple[Tensor, ...], channels: int, rounding: Rounding
) -> Tensor:
    """Return the cache (N, C, C) after a layer with this attention (N, c, c) by head.

    `rounding` is that of the division of attention times c by C: towards zero as by the published
    code under the torch that it pins, down as by later versions of torch, or none.
    """
    total = heads[0].new_zeros(())
    for head in heads:
        own = int(head.shape[-1])
        spread = functional.interpolate(
            head[:, None], (channels, channels), mode="bilinear", align_corners=False
        )[:, 0]
        share = spread * own
        if rounding == "none":
            total = total + share / channels
        else:
            total = total + torch.div(share, channels, rounding_mode=rounding)
    kept = 0.0 if cache is None else DECAY * cache
    # Without a cache the first layer's attention counts nine tenths, as published.
    return kept + (DECAY if cache is None else 1 - DECAY) * total
