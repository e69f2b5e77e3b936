"""Output of the network: a change of the pixels, or removal of haze."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

DEEPEST = 2.5
"""Upper bound of the optical depth: the inversion multiplies errors by exp of it."""
AIRLIGHT = 0.8
"""Airlight for zero tokens without a context."""
LEFT = 0.8
"""`DEEPEST` of the haze that the context has left, or taken too much of."""
DETAIL = 0.5
"""Optical depth by which the decoder may differ from the smooth maps and its own mean."""
FADE = 16
"""Pixels over which the decoder's share fades towards the edges of a tile."""
MARGIN = 1
"""Tokens around a tile that its smooth maps depend on."""
_BANDS = 3


class HazeHead(nn.Module):
    """Optical depth and airlight of pixels, by which Koschmieder's model is inverted.

    Tokens give airlight, depth, and the dependence of the depth on a pixel's brightness, as smooth
    maps (quadratic B-splines of one knot a token) across tiles. The decoder adds differences of
    depth within its tile, with zero mean and zero at the tile's edges: so the picture has no seams
    there. Tokens of zeros and a decoder of zeros change nothing. Arithmetic is in the dtype of the
    tiles, also under autocast.
    """

    def __init__(self, width: int, stride: int, context: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.deepest = LEFT if context else DEEPEST
        # An airlight of every token shows as bands in bright skies; a context gives a better one.
        self.map_count = 2 if context else 3
        self.norm = nn.LayerNorm(width)
        self.knots = nn.Linear(width, self.map_count * _BANDS)

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        detail: Tensor | None = None,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """Return optical depth, and airlight less `AIRLIGHT`, (N, 3, h, w) of `rows` and `columns`.

        `x` is (N, 3, H, W), `tokens` (N, width, H / stride + 2, W / stride + 2), with a `MARGIN` on
        every side; `detail` is (N, 3, H, W) from the decoder. With context the airlight is zeros.
        """
        knots = self.knots(self.norm(tokens.permute(0, 2, 3, 1))).permute(0, 3, 1, 2).to(x.dtype)
        # Products in half precision would make visible steps in smooth fog.
        with torch.autocast(x.device.type, enabled=False):
            return self._maps(
                x, knots, None if detail is None else detail.to(x.dtype), rows, columns
            )

    def _maps(
        self, x: Tensor, knots: Tensor, detail: Tensor | None, rows: slice, columns: slice
    ) -> tuple[Tensor, Tensor]:
        down, along = (torch.from_numpy(spline(n, self.stride)).to(x) for n in x.shape[2:])
        depth, slope, *rest = (down[rows] @ knots @ along[columns].T).chunk(self.map_count, dim=1)
        airlight = rest[0] if rest else torch.zeros_like(depth)
        brightness = x[..., rows, columns].mean(1, keepdim=True)
        depth = depth + slope * (brightness - 0.5)
        if detail is not None:
            first, second = (torch.from_numpy(_fade(n)).to(x) for n in x.shape[2:])
            fade = first[:, None] * second
            share = torch.tanh(detail)
            # A constant over a tile would show the grid, faded at every edge.
            share = share - (fade * share).mean((2, 3), keepdim=True) / fade.mean()
            depth = depth + DETAIL * (fade * share)[..., rows, columns]
        return self.deepest * torch.tanh(depth / self.deepest), airlight


def restored(x: Tensor, depth: Tensor, airlight: Tensor) -> Tensor:
    """Return pixels x + (exp(τ) − 1) · (x − A), of optical depth τ and airlight A (N, 3, h, w)."""
    return x + torch.expm1(depth) * (x - airlight)


# Arrays: a tensor made in inference mode could not be trained with.
@functools.lru_cache(maxsize=16)
def spline(pixels: int, stride: int) -> npt.NDArray[np.float32]:
    """Return (pixels, pixels / stride + 2).

    The weights of quadratic B-splines with a knot per token. The first and the last knot lie
    `MARGIN` tokens outside. Each row sums to 1.
    """
    at = (np.arange(pixels) + 0.5) / stride
    knots = np.arange(pixels // stride + 2 * MARGIN) + 0.5 - MARGIN
    apart = np.abs(at[:, None] - knots)
    flank = 0.5 * np.maximum(1.5 - apart, 0) ** 2
    return np.where(apart < 0.5, 0.75 - apart**2, flank).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _fade(pixels: int) -> npt.NDArray[np.float32]:
    """Return (pixels,): 0 at both ends, 1 from `FADE` pixels on."""
    at = np.arange(pixels) + 0.5
    fade: npt.NDArray[np.float32] = np.minimum(np.minimum(at, pixels - at) / FADE, 1).astype("f4")
    return fade
