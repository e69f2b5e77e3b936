"""Windows of tokens that are counted from the image's origin, whatever the tile."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Windows(NamedTuple):
    """How a map of tokens is cut into windows of `side`² tokens."""

    side: int
    beyond: tuple[int, int, int, int]
    """Tokens missing at left, right, top and bottom: beyond the tile, or the image."""
    rows: int
    columns: int

    def cut(self, x: Tensor) -> Tensor:
        """Return windows (N · rows · columns, side², C) of a map (N, h, w, C), zeros beyond it."""
        grown = pad(x, (0, 0, *self.beyond)) if any(self.beyond) else x
        count, channels = x.shape[0], x.shape[-1]
        split = grown.reshape(count, self.rows, self.side, self.columns, self.side, channels)
        return split.transpose(2, 3).reshape(-1, self.side**2, channels)

    def join(self, windows: Tensor) -> Tensor:
        """Return the map (N, h, w, C) of these windows."""
        side, channels = self.side, windows.shape[-1]
        split = windows.reshape(-1, self.rows, self.columns, side, side, channels)
        grown = split.transpose(2, 3).reshape(-1, self.rows * side, self.columns * side, channels)
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
    rows, columns = (shape[0] + top + bottom) // side, (shape[1] + left + right) // side
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
    """Return what tokens may attend to, (N · windows, 1, 1 or side², side²) bool; None: everything.

    `known` (N, h, w) bool. Tokens that are not known may attend to all, so that no row is empty;
    their results do not count.
    """
    if not any(windows.beyond) and bool(known.all()):
        return None
    inside = windows.cut(known[..., None].to(torch.uint8))[..., 0].bool()
    return (inside[:, None, :] | ~inside[:, :, None])[:, None]


def relative_index(side: int) -> Tensor:
    """Return the row of a bias table for each pair of tokens, (side², side²) int64.

    Entry (i, j) is (Δy + side − 1) · (2 · side − 1) + Δx + side − 1, with Δ = i − j.
    """
    line = torch.arange(side)
    cells = torch.cartesian_prod(line, line)
    offset = cells[:, None] - cells[None] + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]
