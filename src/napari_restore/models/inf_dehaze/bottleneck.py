"""Bottleneck of Inf-Dehaze, which relates the tokens of the whole image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._layers import Pointwise
from napari_restore.models._steps import Routing, Tick
from napari_restore.models.inf_dehaze.config import InfDehazeConfig
from napari_restore.models.inf_dehaze.ibssa import (
    IBSSA,
    FullAttention,
    HeadwiseAttention,
    chunks,
    learns,
)

Slices = tuple[slice, slice]

_PIECE = 96
"""Cells along a side of the pieces that experts and MLP process at once."""
_BASE = 10_000.0
_GATHERING = 3
"""Time of a multiplication in the attention, relative to one in the rest (on a CPU)."""


class RMSNorm(nn.Module):
    """x / √(mean x² + 1e-5) · weight over the last dimension; float32 stays float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        return x * scale * self.weight


class GatedMLP(nn.Module):
    """down(GELU(gate(x)) · up(x)), `ratio` times as wide inside, no biases."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, ratio * width, bias=False)
        self.up = nn.Linear(width, ratio * width, bias=False)
        self.down = nn.Linear(ratio * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.gate.weight.dtype)
        gated = functional.gelu(self.gate(x))
        # A product in place saves a tensor, but a gradient needs the one it overwrites.
        gated = gated * self.up(x) if learns(x, self) else gated.mul_(self.up(x))
        return self.down(gated)  # type: ignore[no-any-return]


class BottleneckLayer(nn.Module):
    """x ← x + Attention(RMSNorm(x)), then x ← x + MLP(RMSNorm(x)) + w · LMMoE(x).

    Outside training, and where no gradient is needed, the second step runs over pieces of the map,
    the experts with a margin, from one grid into the other. The gate's input is relative to the
    mean over the whole grid.
    """

    def __init__(self, config: InfDehazeConfig, index: int) -> None:
        super().__init__()
        width = config.widths[-1]
        full = config.layers[index] == "full"
        self.norm1 = RMSNorm(width)
        self.attention: HeadwiseAttention = (
            FullAttention(config) if full else IBSSA(config, seed=index)
        )
        self.norm2 = RMSNorm(width)
        self.mlp = GatedMLP(width, config.mlp_ratio)
        self.experts = LMMoE(config)
        self.local_weight = config.local_weight
        self.centred_gate = config.centred_gate
        self.piece = _PIECE

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the layer's computations; the grid itself may be more precise."""
        return self.mlp.gate.weight.dtype

    def forward(
        self, grid: Tensor, tick: Tick | None = None, routing: Routing | None = None
    ) -> Tensor:
        """Return (H, W, C) → (H, W, C); `grid` is overwritten unless this `learns`."""
        height, width, _ = grid.shape
        share = self._attention_share(height, width)
        grid = self.attend(grid, None if tick is None else lambda part: tick(share * part), routing)
        centre = self.centre(grid)
        chosen = None
        if routing is not None and routing.records:
            if centre is not None:
                routing.made["centre"] = centre
        elif routing is not None:
            chosen = routing.fixed("experts", lambda: self._chosen_experts(grid, centre))
        if learns(grid, self):
            local = self.local_weight * self.experts(grid, centre, chosen)
            grid = grid + self.mlp(self.norm2(grid)) + local
            return grid
        out = torch.empty_like(grid)
        parts = list(pieces(height, width, self.piece, self.experts.halo))
        for done, (core, around, inner) in enumerate(parts, start=1):
            chosen_here = None if chosen is None else chosen[around]
            self._work(grid, out, centre, chosen_here, core, around, inner)
            if tick is not None:
                tick(share + (1 - share) * done / len(parts))
        return out

    def attend(
        self, grid: Tensor, tick: Tick | None = None, routing: Routing | None = None
    ) -> Tensor:
        """Return the first step alone."""
        x = grid.reshape(-1, grid.shape[2])
        gathered = self.attention(x, self.norm1, tick, routing)
        if learns(grid, self):
            return torch.add(x, gathered).view_as(grid)
        for rows in chunks(x):
            x[rows] += gathered[rows]
        return x.view_as(grid)

    def centre(self, grid: Tensor) -> Tensor | None:
        """Return what is subtracted from `grid`, the first step's result, for the experts' gate."""
        return channel_means(grid.reshape(-1, grid.shape[2])) if self.centred_gate else None

    @torch.no_grad()
    def _chosen_experts(self, grid: Tensor, centre: Tensor | None) -> Tensor:
        """Return the experts of every cell, (H, W, k) uint8."""
        height, width, _ = grid.shape
        shape = (height, width, self.experts.top_k)
        chosen = torch.empty(shape, dtype=torch.uint8, device=grid.device)
        for core, _, _ in pieces(height, width, self.piece, 0):
            chosen[core] = self.experts.routing(grid[core], centre)
        return chosen

    def _work(
        self,
        grid: Tensor,
        out: Tensor,
        centre: Tensor | None,
        chosen_here: Tensor | None,
        core: Slices,
        around: Slices,
        inner: Slices,
    ) -> None:
        cells = grid[around].clone(memory_format=torch.contiguous_format)
        local = self.experts(cells, centre, chosen_here)[inner]
        del cells
        x = grid[core]
        target = out[core]
        torch.add(x, self.mlp(self.norm2(x)), out=target)
        target.add_(local, alpha=self.local_weight)

    def _attention_share(self, height: int, width: int) -> float:
        """Return roughly the attention's share of a layer's time."""
        attention, channels = self.attention, self.mlp.gate.in_features
        key_count = length = height * width
        if isinstance(attention, IBSSA) and length >= attention.exact_below:
            key_count = attention.block_size * (1 + attention.neighbours) + attention.samples
        of_head = attention.key_width + attention.value_width
        gathering = _GATHERING * attention.heads * of_head * (channels + key_count)
        experts = 1 + len(self.experts.experts)
        rest = channels * (3 * self.mlp.gate.out_features + 2 * experts * self.experts.hidden)
        return gathering / (gathering + rest)

    def peak_bytes(self, height: int, width: int) -> int:
        """Return the peak bytes for a float32 grid of `height` × `width`, itself included."""
        channels = self.mlp.gate.in_features
        size = self.dtype.itemsize
        grid = 4 * height * width * channels
        attention = self.attention.peak_bytes(height * width, channels, size)
        halo = self.experts.halo
        cells = _longest(height, self.piece) * _longest(width, self.piece)
        around = _longest(height, self.piece, halo) * _longest(width, self.piece, halo)
        local = around * channels * size
        # The gate and the norms use float32, what follows them a copy in half precision.
        cast = size if size < 4 else 0
        experts = around * channels * (4 + cast) + self.experts.peak_bytes(around, size)
        mlp = local + cells * (channels * (4 + cast) + 2 * self.mlp.gate.out_features * size)
        return 2 * grid + max(attention, experts, mlp)


class Bottleneck(nn.Module):
    """All layers, on a grid (H, W, C) of the tokens of a whole image."""

    def __init__(self, config: InfDehazeConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            BottleneckLayer(config, index) for index in range(len(config.layers))
        )

    def place(self, grid: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        """Add the position of each token of the grid (H, W, C); in place unless this `learns`.

        The first half of the channels gets sines and cosines of the column, the second of the row.
        C must be a multiple of 4. `origin` is the row and column of the first token: random ones in
        training give crops the positions of larger images.
        """
        height, width, channels = grid.shape
        half = channels // 2
        columns = _waves(origin[1], width, half, grid)[None].expand(height, width, half)
        rows = _waves(origin[0], height, half, grid)[:, None].expand(height, width, half)
        if learns(grid, self):
            return grid + torch.cat([columns, rows], dim=2)
        grid[..., :half] += columns
        grid[..., half:] += rows
        return grid

    def layer(
        self,
        index: int,
        grid: Tensor,
        tick: Tick | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """Apply layer `index` to the grid (H, W, C) float32; overwrites it unless this `learns`.

        If so its peak is two grids and what one head or one piece needs. An error raised by `tick`
        leaves the grid undefined. `routing` contains "experts" (H, W, k) uint8 and, where the
        attention is not exact, for every head ("buckets", head) (L, 2) int16 of queries and keys. One
        that only records has "centre" (C,) instead of experts: what their gate subtracts.
        """
        return self.layers_in_order()[index](grid, tick, routing)  # type: ignore[no-any-return]

    @property
    def routing_bytes(self) -> int:
        """Most bytes per token of a layer's routing."""
        taken = (
            layer.experts.top_k + 4 * layer.attention.heads for layer in self.layers_in_order()
        )
        return max(taken, default=0)

    def peak_bytes(self, height: int, width: int) -> int:
        """Return the peak bytes of the largest layer for `height` × `width` tokens, included."""
        return max(layer.peak_bytes(height, width) for layer in self.layers_in_order())

    def auxiliary_loss(self) -> Tensor:
        """Return the mean balance loss of the layers' experts for the last grid in training.

        0 without one, and after it was returned once. Under checkpointing it needs
        ``use_reentrant=False``: else the first pass has no gradients.
        """
        return torch.stack([layer.experts.balance() for layer in self.layers_in_order()]).mean()

    def layers_in_order(self) -> list[BottleneckLayer]:
        """Return the layers in the order of computation."""
        return [layer for layer in self.blocks if isinstance(layer, BottleneckLayer)]


def _waves(start: int, length: int, channels: int, like: Tensor) -> Tensor:
    """Return (length, channels): sines, then cosines, of start, start + 1, … by frequency."""
    steps = torch.arange(channels // 2, dtype=torch.float64) / (channels // 2)
    angles = torch.arange(start, start + length, dtype=torch.float64)[:, None] * _BASE**-steps
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like)


def _spans(length: int, piece: int) -> list[tuple[int, int]]:
    """Yield 0 … length in equal parts of at most `piece`."""
    step = -(-length // -(-length // piece))
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _longest(length: int, piece: int, halo: int = 0) -> int:
    """Return the length of the longest part with `halo` on each side where there is as much."""
    spans = _spans(length, piece)
    return max(min(length, stop + halo) - max(0, start - halo) for start, stop in spans)


def pieces(
    height: int, width: int, piece: int, halo: int
) -> Iterator[tuple[Slices, Slices, Slices]]:
    """Yield pieces of a map, of at most `piece` × `piece` cells.

    For each: itself, itself with up to `halo` cells more on each side, and its position in that.
    """
    for top, bottom in _spans(height, piece):
        for left, right in _spans(width, piece):
            y, x = max(0, top - halo), max(0, left - halo)
            yield (
                (slice(top, bottom), slice(left, right)),
                (slice(y, min(height, bottom + halo)), slice(x, min(width, right + halo))),
                (slice(top - y, bottom - y), slice(left - x, right - x)),
            )


BALANCE = 0.01
"""λ, the weight of the balance loss."""
_EPSILON = 1e-8


class Expert(nn.Module):
    """1 × 1 convolution, GELU, k × k convolution, GELU, 1 × 1 convolution; no biases.

    Maps are (1, C, H, W). The middle convolution is depthwise unless `dense`;
    `double_gelu` applies GELU once more after it.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel: int,
        *,
        dense: bool = False,
        double_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = Pointwise(width, hidden, bias=False)
        self.conv2 = nn.Conv2d(
            hidden,
            hidden,
            kernel,
            padding=kernel // 2,
            groups=1 if dense else hidden,
            bias=False,
        )
        self.conv3 = Pointwise(hidden, width, bias=False)
        self.double_gelu = double_gelu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(functional.gelu(self.conv1(x)))
        x = functional.gelu(x)
        if self.double_gelu:
            x = functional.gelu(x)
        return self.conv3(x)  # type: ignore[no-any-return]


class LMMoE(nn.Module):
    """Σ αᵢ Eᵢ(X) over the `top_k` experts of each cell, plus a shared expert.

    α is the softmax of a 1 × 1 convolution of X − `centre`, worked out in float32, kept for the
    best `top_k` and scaled to sum to 1. The centre removes what all cells have in common, which
    would select the same experts everywhere. A cell of the output depends on the cells at most
    `halo` away, beyond the map on zeros; so a cut-out equals the whole, `halo` cells from where it
    was cut. Experts without a cell are not computed. Source: Inf-Dehaze.
    """

    def __init__(self, config: InfDehazeConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.hidden = width * config.expert_ratio
        self.top_k = config.top_k
        self.shared_weight = config.shared_weight
        self.halo = max(*config.experts, config.shared_kernel) // 2
        self.gate = Pointwise(width, len(config.experts))
        self.experts = nn.ModuleList(
            Expert(width, self.hidden, kernel, double_gelu=config.double_gelu)
            for kernel in config.experts
        )
        self.shared = Expert(width, self.hidden, config.shared_kernel, dense=config.shared_dense)
        self._balance: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A tensor that is still part of a graph can be neither copied nor saved.
        return {**self.__dict__, "_balance": None}

    def forward(
        self, x: Tensor, centre: Tensor | None = None, chosen: Tensor | None = None
    ) -> Tensor:
        """Return (H, W, C) → (H, W, C) in the dtype of the weights; `centre` (C,) is for the gate.

        `chosen` (H, W, k): the experts of each cell, where they are chosen already.
        """
        probabilities, weights, experts = self._route(x, centre, chosen)
        if self.training:
            # Assigned: checkpointing computes it a second time.
            loss = balance_loss(probabilities, experts) if torch.is_grad_enabled() else None
            self._balance = loss
        # Channels-last, the order in which the cells lie already.
        x = x.to(self.gate.weight.dtype).permute(2, 0, 1)[None]
        shares = torch.zeros_like(probabilities).scatter(1, experts, weights).to(x.dtype)
        del probabilities, weights, experts
        is_used = (shares != 0).any(3).any(2)[0].tolist()
        keep = learns(x, self)
        mixed = self.shared(x) * self.shared_weight
        for index, expert in enumerate(self.experts):
            if not is_used[index]:
                continue
            share = shares[:, index : index + 1]
            if keep:
                mixed = mixed + share * expert(x)
            else:
                mixed.addcmul_(expert(x), share)
        out: Tensor = mixed[0].permute(1, 2, 0)
        return out

    def routing(self, x: Tensor, centre: Tensor | None = None) -> Tensor:
        """Return the experts (H, W, k) of each cell of (H, W, C), in increasing order."""
        return self._route(x, centre)[2][0].permute(1, 2, 0).sort(-1).values

    def shares(self, x: Tensor, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the gate's probability of every expert for a cell (C,), and its share, (N,) each, 0 unless chosen."""
        probabilities, weights, experts = self._route(x[None, None], centre)
        of_cell = torch.zeros_like(probabilities).scatter(1, experts, weights)
        return probabilities[0, :, 0, 0], of_cell[0, :, 0, 0]

    def _route(
        self, x: Tensor, centre: Tensor | None, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities (1, N, H, W) float32, and weights and numbers (1, k, H, W) of the best experts."""
        # Half precision, autocast's too, would choose other experts.
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.gate.weight.flatten(1).float(), self.gate.bias
            assert bias is not None
            bias = bias.float()
            if centre is not None:
                bias = bias - weight @ centre.float()
            logits = functional.linear(x.float(), weight, bias)
        probabilities = logits.permute(2, 0, 1)[None].softmax(1)
        if chosen is None:
            best, experts = probabilities.topk(self.top_k, dim=1)
        else:
            experts = chosen.permute(2, 0, 1)[None].long()
            best = probabilities.gather(1, experts)
        return probabilities, best / (best.sum(1, keepdim=True) + _EPSILON), experts

    def balance(self) -> Tensor:
        """Return the balance loss, a scalar, of the last map in training; 0 without one, and once returned."""
        last, self._balance = self._balance, None
        return self.gate.weight.new_zeros(()) if last is None else last

    def peak_bytes(self, cells: int, size: int) -> int:
        """Return the peak bytes beside a map of `cells` cells, `size` of them per value."""
        width, experts = self.gate.in_channels, len(self.experts)
        inside = max(2 * self.hidden, self.hidden + width)
        return cells * ((width + inside + experts) * size)


def channel_means(x: Tensor) -> Tensor:
    """Return (C,) float32 means of the tokens (L, C), summed in float64."""
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    # In chunks, as a sum in another dtype copies its input.
    for rows in chunks(x):
        total = total + x[rows].sum(0, dtype=torch.float64)
    return (total / len(x)).float()


def balance_loss(probabilities: Tensor, experts: Tensor) -> Tensor:
    """Return λ · N · Σ fᵢ Pᵢ: λ when all experts are used equally, more when some are preferred.

    `probabilities` (1, N, H, W), `experts` (1, k, H, W): fᵢ is the share of routing that fell on
    expert i, Pᵢ its mean probability.
    """
    count = probabilities.shape[1]
    chosen = torch.bincount(experts.flatten(), minlength=count) / experts.numel()
    return BALANCE * count * (chosen * probabilities.mean(dim=(0, 2, 3))).sum()
