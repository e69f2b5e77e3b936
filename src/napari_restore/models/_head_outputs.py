"""What each head of a site of attention puts out, before the heads are joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadOutputs:
    """Outputs of every head at the same cells, and how the network joins them."""

    values: tuple[Tensor, ...]
    """(…, C_i) of each head. Before the cells there may be any axes, the same for all heads."""
    joins: tuple[Tensor, ...]
    """(C, C_i) of each head: its columns of the projection. The sum over heads of `parts` and the
    projection's bias is what the attention puts out."""

    @classmethod
    def split(cls, joined: Tensor, projection: Tensor, heads: int) -> HeadOutputs:
        """Return the outputs in `joined` (…, C'), head after head, of a projection (C, C')."""
        return cls(joined.chunk(heads, dim=-1), projection.chunk(heads, dim=1))

    def at(self, rows: Tensor, columns: Tensor) -> HeadOutputs:
        """Return the outputs (n, C_i) of some cells of maps (h, w, C_i)."""
        return HeadOutputs(tuple(each[rows, columns] for each in self.values), self.joins)

    def parts(self) -> Iterator[Tensor]:
        """Yield what each head adds to the attention's output, (…, C)."""
        for values, join in zip(self.values, self.joins, strict=True):
            yield values @ join.to(values).T

    def lengths(self) -> Tensor:
        """Return the length of what each head adds at every cell, (heads, …)."""
        return torch.stack([part.norm(dim=-1) for part in self.parts()])
