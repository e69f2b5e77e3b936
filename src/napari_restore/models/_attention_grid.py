"""Where the tokens of a call of attention lie: cells of a tile, whole or in windows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from napari_restore.models._attention_calls import AttentionCall

Size = tuple[int, int]
"""Height and width of a (padded) tile in pixels."""
STRIDES = range(1, 65)
LEAST_WINDOW, LEAST_NEAR = 2, 4
"""Cells along a side of windows: least at all, and least where a mark may miss its cell by one."""
MISSED = 6
"""One of so many marks may lie elsewhere: convolutions before a call blur them."""


class Mark(NamedTuple):
    """Which token of a call changed most when a pixel was changed."""

    pixel: tuple[int, int]
    item: int
    token: int


class Shift(NamedTuple):
    """Cells by which windows are moved, as marks show it."""

    cells: int
    is_sure: bool
    """False where the marks only lie near the cells that they should be at."""


@dataclass(frozen=True)
class CellGrid:
    """Cells of `stride` pixels as tokens, row by row: those of a tile, or of each of its windows.

    Windows are `window` cells along a side, row by row, moved down and right by `shift` cells; what
    leaves at one edge comes in at the other. A map that does not fill them is grown at bottom and
    right, before it is moved or after.
    """

    heads: int
    stride: int
    window: int | None = None
    shift: int = 0
    moved_first: bool = False
    """Whether the map is moved before it is grown."""

    def is_grown(self, size: Size) -> bool:
        """Return whether windows do not fill a tile."""
        return any(n % (self.stride * (self.window or 1)) for n in size)

    def cells_of(self, size: Size) -> tuple[int, int]:
        """Return rows and columns of cells of a tile."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def windows_of(self, size: Size) -> tuple[int, int]:
        """Return rows and columns of windows of a tile, 1 × 1 where there are none."""
        if self.window is None:
            return 1, 1
        rows, columns = self.cells_of(size)
        return -(-rows // self.window), -(-columns // self.window)

    def fits(self, call: AttentionCall, size: Size) -> bool:
        """Return whether a call has as many sets and tokens as this grid on a tile."""
        rows, columns = self.windows_of(size)
        tokens = math.prod(self.sides(size))
        return call.sets == self.heads * rows * columns and call.queries == call.keys == tokens

    def around(self, size: Size) -> tuple[int, int]:
        """Return the rows and columns of cells after which the map begins again when it is moved."""
        if self.moved_first:
            return self.cells_of(size)
        (high, wide), (rows, columns) = self.sides(size), self.windows_of(size)
        return rows * high, columns * wide

    def sides(self, size: Size) -> tuple[int, int]:
        """Return rows and columns of the cells of one item."""
        return self.cells_of(size) if self.window is None else (self.window, self.window)

    def place(self, cell: tuple[int, int], size: Size) -> tuple[int, int]:
        """Return item and token of a cell (row, column)."""
        (high, wide), (_, columns) = self.sides(size), self.windows_of(size)
        y, x = ((at - self.shift) % n for at, n in zip(cell, self.around(size), strict=True))
        return (y // high) * columns + x // wide, (y % high) * wide + x % wide

    def cells(self, item: int, size: Size) -> Tensor:
        """Return the cells (tokens, 2) of an item; (−1, −1) where the network grew the map."""
        (high, wide), (_, columns) = self.sides(size), self.windows_of(size)
        y = torch.arange(high) + item // columns * high
        x = torch.arange(wide) + item % columns * wide
        at = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2)
        cells, own = (at + self.shift) % torch.tensor(self.around(size)), self.cells_of(size)
        beyond = ((at if self.moved_first else cells) >= torch.tensor(own)).any(-1)
        return cells.masked_fill_(beyond[:, None], -1)

    def offset(self, mark: Mark, size: Size) -> tuple[int, int]:
        """Return how far (rows, columns) the marked cell lies behind where an unmoved one would."""
        (high, wide), (_, columns) = self.sides(size), self.windows_of(size)
        y = mark.item // columns * high + mark.token // wide
        x = mark.item % columns * wide + mark.token % wide
        (down, along), (height, width) = (at // self.stride for at in mark.pixel), self.around(size)
        return (down - y) % height, (along - x) % width

    def orders(self, size: Size) -> list[CellGrid]:
        """Return the grid for a tile, with its map moved after and before it is grown if it is."""
        is_grown = self.window is not None and self.is_grown(size)
        return [replace(self, moved_first=first) for first in (False, True)[: 1 + is_grown]]

    def shift_of(self, marks: Sequence[Mark], size: Size) -> Shift | None:
        """Return the shift that explains the marks; None where no shift does."""
        offsets = [self.offset(mark, size) for mark in marks]
        if not offsets:
            return None
        missed = len(offsets) // MISSED
        ((down, along), count) = Counter(offsets).most_common(1)[0]
        if down == along < (self.window or 1) and len(offsets) - count <= missed:
            return Shift(down, is_sure=True)
        if self.window is None or self.window < LEAST_NEAR:
            return None
        distances = {shift: self._distances(offsets, shift, size) for shift in range(self.window)}
        near = [shift for shift, found in distances.items() if max(found) <= 1]
        if not near:
            return None
        # Of two that explain them equally well the smaller: 0 if it is one of them.
        return Shift(min(near, key=lambda shift: (sum(distances[shift]), shift)), is_sure=False)

    def _distances(self, offsets: Sequence[tuple[int, int]], shift: int, size: Size) -> list[int]:
        """Return how many cells each offset differs from a shift, around the edges."""
        sides, found = self.around(size), []
        for offset in offsets:
            apart = [(at - shift) % side for at, side in zip(offset, sides, strict=True)]
            found.append(max(min(n, side - n) for n, side in zip(apart, sides, strict=True)))
        return found


def head_counts(call: AttentionCall) -> tuple[int, ...]:
    """Return how many of a call's sets may be heads: its last axis, else one or all."""
    likely = (call.lead[-1], 1) if len(call.lead) > 1 else (1, call.sets)
    return tuple(dict.fromkeys(likely))


def possible_grids(
    call: AttentionCall, size: Size, declared: Mapping[str, int]
) -> Iterator[CellGrid]:
    """Yield the grids that a call's shapes allow on a tile, with the values that are `declared`."""
    heads = (declared["heads"],) if "heads" in declared else head_counts(call)
    strides = (declared["stride"],) if "stride" in declared else STRIDES
    side = math.isqrt(call.queries)
    windows: tuple[int | None, ...] = (None, side)
    if "window" in declared or side * side != call.queries or side < LEAST_WINDOW:
        windows = (declared.get("window"),)
    shift = declared.get("shift", 0)
    if shift and "window" not in declared:
        windows = tuple(window for window in windows if window is not None)
    for window in windows:
        for stride in strides:
            if any(length % stride for length in size):
                continue
            for count in heads:
                grid = CellGrid(count, stride, window, shift)
                if grid.fits(call, size):
                    yield from grid.orders(size)


def chosen_grid(
    grids: Sequence[CellGrid],
    marks: Mapping[int, Sequence[Mark]],
    size: Size,
    *,
    is_shift_known: bool = False,
) -> tuple[CellGrid, bool] | None:
    """Return the first grid that the marks confirm, and whether they do surely; else None.

    `marks` are given by the number of heads that the sets are divided into. Their shift is taken
    unless that of the grids is known.
    """
    unsure = None
    for grid in grids:
        shift = grid.shift_of(marks[grid.heads], size)
        if shift is None:
            continue
        found = grid if is_shift_known else replace(grid, shift=shift.cells)
        if shift.is_sure:
            return found, True
        unsure = unsure or (found, False)
    return unsure
