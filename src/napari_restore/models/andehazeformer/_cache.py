"""The cache of a global layer: keys and values of the tokens that are kept, and what is merged.

Two rounds over the tiles: `collect_kept`, then `collect_merged`, which compares the other tokens
with the kept ones of the whole image. Tiles may come in any order; sums are float64 and are added
in the order of tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from napari_restore.models._routing import Routing
from napari_restore.models.andehazeformer._members import Members
from napari_restore.models.andehazeformer._sphere import unit


class Cache(NamedTuple):
    """What the tokens of an image attend to in one global layer."""

    key: Tensor
    """(K, C), of unit length in every head but for the pre-norm twin."""
    value: Tensor
    """(K, C)."""
    weight: Tensor
    """(K,) tokens that each one stands for; one that is partly valid counts by its valid share."""


class KeptTokens(NamedTuple):
    """Kept tokens of one tile's core, or of all."""

    number: Tensor
    """(n,) their numbers among the members."""
    key: Tensor
    """(n, C)."""
    value: Tensor
    """(n, C)."""
    weight: Tensor
    """(n,)."""


class Merged(NamedTuple):
    """Sums over the evicted tokens of one tile's core, or of all, by the token they join."""

    key: Tensor
    """(K, C) float64, weighted."""
    value: Tensor
    """(K, C) float64, weighted."""
    weight: Tensor
    """(K,) float64."""

    def plus(self, other: Merged) -> Merged:
        """Return the sums over the tokens of both."""
        return Merged(self.key + other.key, self.value + other.value, self.weight + other.weight)


class TileTokens(NamedTuple):
    """Candidates of one tile's core at one layer."""

    keys: Tensor
    """(h, w, C)."""
    values: Tensor
    """(h, w, C)."""
    ranks: Tensor
    """(3, h, w): transmission, contrast, valid share, as `settle_members` got them."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the first one in the image's grid of candidates."""


def collect_kept(tile: TileTokens, members: Members) -> KeptTokens:
    """Return the tile's tokens that are members."""
    index, (rows, columns) = _members_in(tile, members)
    return KeptTokens(
        index,
        tile.keys[rows, columns],
        tile.values[rows, columns],
        tile.ranks[2, rows, columns],
    )


def numbers_of(tile: TileTokens, members: Members) -> Tensor:
    """Return the numbers of the members at their cells of the tile (h, w) int64, −1 elsewhere."""
    numbers = torch.full_like(tile.ranks[2], -1, dtype=torch.int64)
    index, (rows, columns) = _members_in(tile, members)
    numbers[rows, columns] = index
    return numbers


def settle_kept(parts: Sequence[KeptTokens]) -> KeptTokens:
    """Return all kept tokens by number, from those of all tiles in any order."""
    order = torch.cat([part.number for part in parts]).argsort()
    return KeptTokens(*(torch.cat(fields)[order] for fields in zip(*parts, strict=True)))


def collect_merged(
    tile: TileTokens, members: Members, kept: KeptTokens, routing: Routing | None = None
) -> tuple[Merged, Tensor]:
    """Return the sums of the tile's evicted tokens, and which member each token belongs to.

    An evicted token joins the kept one of its bin whose key has the largest cosine, the first of
    equals. Numbers of members (h, w) int64; kept tokens have their own, tokens without a valid
    pixel −1. With `routing` they are decided once for each tile's origin; see `Routing`.
    """

    def make() -> Tensor:
        return assigned(tile, members, kept)

    joined = make() if routing is None else routing.fixed(("merged", tile.origin), make)
    _, (rows, columns) = _members_in(tile, members)
    is_evicted = joined >= 0
    is_evicted[rows, columns] = False
    into = joined[is_evicted]
    # Float64, so that sums do not depend on how the image is tiled.
    weight = tile.ranks[2][is_evicted].double()
    key, value = (
        torch.zeros(
            len(kept.number), plane.shape[-1], dtype=torch.float64, device=plane.device
        ).index_add(0, into, plane[is_evicted].double() * weight[:, None])
        for plane in (tile.keys, tile.values)
    )
    mass = torch.zeros_like(kept.weight, dtype=torch.float64).index_add(0, into, weight)
    return Merged(key, value, mass), joined


@torch.no_grad()
def assigned(tile: TileTokens, members: Members, kept: KeptTokens) -> Tensor:
    """Return the number of the member that each of the tile's tokens belongs to; see above."""
    joined = torch.full_like(tile.ranks[2], -1, dtype=torch.int64)
    index, (rows, columns) = _members_in(tile, members)
    bins = members.bin_of(tile.ranks[0].float())
    is_valid = tile.ranks[2] > 0
    # As cosines over all heads, also where keys have other lengths.
    keys, kept_keys = unit(tile.keys), unit(kept.key)
    for number in torch.unique(members.bins).tolist():
        here = is_valid & (bins == number)
        those = (members.bins == number).nonzero()[:, 0]
        likeness = keys[here] @ kept_keys[those].T
        joined[here] = those[likeness.argmax(1)] if likeness.numel() else joined[here]
    joined[rows, columns] = index
    return joined


def settle_cache(kept: KeptTokens, parts: Sequence[Merged], heads: int) -> Cache:
    """Return the cache from all kept tokens and the sums of all tiles, added in their order.

    Keys become the sum, of unit length in every head unless `heads` is 0 (then the mean); values
    the mean.
    """
    own = kept.weight.double()
    total = Merged(own[:, None] * kept.key.double(), own[:, None] * kept.value.double(), own)
    for part in parts:
        total = total.plus(part)
    mass = total.weight[:, None]
    if heads:
        key = unit(torch.unflatten(total.key, -1, (heads, -1))).flatten(-2)
    else:
        key = total.key / mass
    return Cache(key.to(kept.key.dtype), (total.value / mass).to(kept.value.dtype), total.weight)


def _members_in(tile: TileTokens, members: Members) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the numbers of the members inside the tile, and their rows and columns in it."""
    place = members.cells - members.cells.new_tensor(tile.origin)
    limit = members.cells.new_tensor(tile.ranks.shape[1:])
    index = ((place >= 0) & (place < limit)).all(1).nonzero()[:, 0]
    rows, columns = place[index].unbind(1)
    return index, (rows, columns)
