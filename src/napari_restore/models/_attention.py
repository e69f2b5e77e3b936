"""Attention of a network: where it is computed, and the weights of one query in each head."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

AttentionKind: TypeAlias = Literal[
    "window", "band", "sparse", "full", "routing", "cached", "channel", "gate"
]
"""What the weights of a row belong to.

``window``: the cells of the query's window. ``band``: the same for each frequency band. ``sparse``: the
cells with similar hashes. ``full``: all cells. ``routing``: the experts of the query's own cell.
``cached``: tokens kept from the whole image. ``channel``: channels, not places. Its rows are derived:
how alike the results of cells are to that of the query, −1 to 1; they do not sum to 1. ``gate``: the
query's own cell, whose features are multiplied with factors; they do not sum to 1."""


@dataclass(frozen=True)
class AttentionSite:
    """One place of a network where attention is computed."""

    name: str
    """For options and records, for instance ``"encoder.2.1"``: stage and block, counted from 1."""
    title: str
    """For users, for instance ``"encoder 2.1, shifted"``."""
    kind: AttentionKind
    step: str
    """Name of the model's step (`Sweep` or `WholeStep`) that computes it."""
    stride: int
    """Pixels per cell along a side."""
    heads: tuple[str, ...]
    """Names of the heads, ``"1"``, ``"2"`` … unless they mean more."""
    window: int | None = None
    """Cells along a side of a window; None where it is not divided into windows."""
    shift: int = 0
    """Cells by which the windows are moved down and right."""
    layer: int | None = None
    """Layer of a `WholeStep`, counted from 0."""
    placed: bool = False
    """Whether cells, the query's too, are counted from the corner of the image, not of the box."""
    key_stride: int | None = None
    """Pixels per cell of the weights' cells along a side, where that is not `stride`."""


@dataclass(frozen=True)
class AttentionRow:
    """Attention of one query (or, transposed, to one key) in every head of a site."""

    weights: Tensor
    """(heads, K) float32; of softmax attention they sum to 1 in every head. All are 0 where the network
    leaves the query out, because no pixel of its cell is valid."""
    cells: Tensor
    """(heads, K, 2) int64: row and column of the cell of each weight in the map the site was given;
    (−1, −1) where a position is empty, whose weight is 0. All other cells were never candidates."""
    query: tuple[int, int]
    """Row and column of the query's cell."""
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    """Further numbers of the query by name, for instance ``"shares"`` of experts."""

    @classmethod
    def of_heads(
        cls,
        weights: Tensor,
        cells: Tensor,
        query: tuple[int, int],
        numbers: Mapping[str, Tensor] | None = None,
    ) -> AttentionRow:
        """Return the row of heads whose `weights` (heads, K) are for the same `cells` (K, 2)."""
        every = cells.expand(len(weights), *cells.shape)
        return cls(weights.float(), every, query, numbers or {})


class LayerTokens(Protocol):
    """What a run kept of one layer of a `WholeStep`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the layer's input."""

    def tokens(self, numbers: Tensor) -> Tensor:
        """Return the input (n, C) float32 of the cells `numbers` (n,), each y · width + x."""

    def kept(self, name: Hashable) -> Tensor:
        """Return what `SweptModel.kept_of_layer` returned under this name."""


def numbered(heads: int) -> tuple[str, ...]:
    """Return the names ``"1"``, ``"2"``, … of heads that have no other."""
    return tuple(str(head) for head in range(1, heads + 1))


def positions_of(numbers: Tensor, width: int) -> Tensor:
    """Return rows and columns (…, 2) of cells numbered y · width + x; (−1, −1) of those below 0."""
    import torch

    positions = torch.stack([numbers // width, numbers % width], dim=-1)
    return positions.masked_fill_((numbers < 0)[..., None], -1)


def relative_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of tokens: (window², window²) int64.

    Entry (i, j) is (Δy + window - 1) · (2 · window - 1) + Δx + window - 1 for token i attending to
    token j, with Δ = i - j.
    """
    import torch

    line = torch.arange(window)
    cells = torch.cartesian_prod(line, line)
    offset = cells[:, None] - cells[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


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
        import torch

        return torch.stack([part.norm(dim=-1) for part in self.parts()])
