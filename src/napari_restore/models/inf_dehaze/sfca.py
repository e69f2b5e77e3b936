"""Spatial-frequency cross attention: a map attends to its own frequency bands."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._attention import HeadOutputs
from napari_restore.models._layers import from_windows, to_windows
from napari_restore.models.inf_dehaze.blocks import add

BANDS = 3
INNER = 32
"""Channels between the two linear maps."""
HEADS = 2


class SpatialFrequencyAttention(nn.Module):
    """x + W_out Σ ω_j softmax(Q_j K_jᵀ / √d) V_j over the bands j of x' = W_in x.

    Q comes from x', K and V from its low, middle and high band; attention stays within windows, and
    ω is a softmax over the output of a small network for each band. W_out starts at zero, so that
    an untrained one changes nothing. Source: supplement of Inf-Dehaze.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.reduce = nn.Linear(width, INNER)
        self.query = nn.Linear(INNER, BANDS * INNER, bias=False)
        self.key_value = nn.ModuleList(
            nn.Linear(INNER, 2 * INNER, bias=False) for _ in range(BANDS)
        )
        self.weight_net = nn.Sequential(
            nn.Conv2d(INNER, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)
        )
        self.restore = nn.Linear(INNER, width)
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, H, W, C) → the same shape; H and W whole windows."""
        results = torch.stack([self._attend(*band) for band in self._by_band(x)])
        weights = self.band_weights(results).to(results.dtype)
        return add(x, self.restore((weights[..., None, None, None] * results).sum(0)))

    def row(self, x: Tensor, query: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the attention of cell `query` (row, column) of a map (H, W, C).

        Softmax weights (3 · heads, window²), the bands after one another from low to high; the
        cells (window², 2) they belong to; and ω (3,), the share of each band in the whole map.
        """
        top, left = (at // self.window * self.window for at in query)
        rows, results = [], []
        for q, key_value in self._by_band(x[None]):
            results.append(self._attend(q, key_value))
            window = key_value[:, top : top + self.window, left : left + self.window]
            k = _heads(window.reshape(1, self.window**2, -1).chunk(2, dim=-1)[0])[0]
            one = _heads(q[:, query[0], query[1]][:, None])[0]
            scores = (one @ k.transpose(1, 2))[:, 0] * one.shape[-1] ** -0.5
            rows.append(scores.float().softmax(-1))
        line = torch.arange(self.window, device=x.device)
        cells = torch.cartesian_prod(line + top, line + left)
        return torch.cat(rows), cells, self.band_weights(torch.stack(results))[:, 0]

    def head_outputs(self, x: Tensor) -> HeadOutputs:
        """Return what the heads of the bands put out for a map (H, W, C), in the order of `row`."""
        results = torch.stack([self._attend(*band) for band in self._by_band(x[None])])
        weights = self.band_weights(results).to(results.dtype)[:, 0]
        # A band's ω is in its columns of the projection.
        projection = torch.cat([weight * self.restore.weight for weight in weights], dim=1)
        return HeadOutputs.split(torch.cat(list(results[:, 0]), dim=-1), projection, BANDS * HEADS)

    def _by_band(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return queries, and keys with values, of each band of maps (N, H, W, C)."""
        reduced = self.reduce(x)
        bands = frequency_bands(reduced).to(reduced.dtype)
        queries = self.query(reduced).chunk(BANDS, dim=-1)
        return [
            (query, key_value(band))
            for query, band, key_value in zip(queries, bands, self.key_value, strict=True)
        ]

    def value_weights(self, band: int) -> Tensor:
        """Return the weights (32, 32) of the values of a band, a view."""
        key_value = self.key_value[band]
        assert isinstance(key_value, nn.Linear)
        return key_value.weight[INNER:]

    def bands(self, x: Tensor) -> Tensor:
        """Return the low, middle and high band of W_in x, (3, N, H, W, 32) float32."""
        return frequency_bands(self.reduce(x))

    def band_weights(self, results: Tensor) -> Tensor:
        """Return ω (3, N), summing to 1 over the bands, of attention results (3, N, H, W, 32)."""
        maps: Tensor = self.weight_net(results.flatten(0, 1).permute(0, 3, 1, 2))
        # A mean over thousands of cells exceeds half precision.
        return maps.float().mean((1, 2, 3)).reshape(results.shape[:2]).softmax(0)

    def _attend(self, query: Tensor, key_value: Tensor) -> Tensor:
        height, width = query.shape[1:3]
        q = _heads(to_windows(query, self.window))
        k, v = (_heads(part) for part in to_windows(key_value, self.window).chunk(2, dim=-1))
        results = functional.scaled_dot_product_attention(q, k, v)
        return from_windows(results.transpose(1, 2).flatten(2), self.window, height, width)


def _heads(x: Tensor) -> Tensor:
    """Return (windows, tokens, C) → (windows, heads, tokens, C/heads)."""
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)


def frequency_bands(x: Tensor) -> Tensor:
    """Return low, middle and high frequencies (3, N, H, W, C) float32 of maps (N, H, W, C).

    Low are those of at most H/32 and W/32 waves over the map (at least one), middle those of at
    most H/16 and W/16 that are not low, high is the rest: boxes of an odd side around the zero
    frequency, so that the bands are real. The result is that of masking a 2-D FFT, but only the few
    frequencies of the inner boxes are computed; always in float32, as half precision loses the
    difference of two bands.
    """
    x = x.float()
    # Autocast would take the products to half precision.
    with torch.autocast(x.device.type, enabled=False):
        low, both = (
            _box(x, radius_y, radius_x)
            for radius_y, radius_x in zip(radii(x.shape[1]), radii(x.shape[2]), strict=True)
        )
        return torch.stack([low, both - low, x - both])


def radii(side: int) -> tuple[int, int]:
    """Return the highest frequency of the low and of the middle band, in waves per `side` cells."""
    low = max(1, side // 32)
    return low, max(low + 1, side // 16)


def _box(x: Tensor, radius_y: int, radius_x: int) -> Tensor:
    """Return `x` (N, H, W, C) without frequencies beyond the radii."""
    # Column by column: one product of a few waves and a wide map sums in an order that depends on
    # the number of threads.
    down, across = _basis(x.shape[1], radius_y, x), _basis(x.shape[2], radius_x, x)
    waves = (down.T @ x.transpose(1, 2)).transpose(1, 2)
    kept = across @ (across.T @ waves)
    return (down @ kept.transpose(1, 2)).transpose(1, 2)


def _basis(side: int, radius: int, like: Tensor) -> Tensor:
    """Return orthonormal waves (side, 2 · radius + 1) up to `radius`, with cos and sin."""
    radius = min(radius, (side - 1) // 2)
    place = torch.arange(side, dtype=torch.float64, device=like.device)
    turns = torch.outer(place, torch.arange(1, radius + 1, device=like.device)) / side
    angle = 2 * torch.pi * turns
    constant = torch.full((side, 1), 0.5**0.5, dtype=torch.float64, device=like.device)
    waves = torch.cat([constant, angle.cos(), angle.sin()], dim=1)
    basis: Tensor = waves * (2 / side) ** 0.5
    return basis.to(like.dtype)
