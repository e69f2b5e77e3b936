"""The caches of an image: which of its tokens they keep, and what is merged into these.

Which are kept depends on the scattering of light (the transmission of the overview) and on contrast,
not on features: so all global layers keep the same tokens, and they are chosen once. Then two rounds
over the tiles at every layer: the rows of kept tokens, and those of the others, which are compared
with the kept ones of the whole image. Rows are added up in float64, in the order of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.models.andehazeformer.config import kept_tokens
from napari_restore.models.andehazeformer.sphere import unit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

BINS = 8
"""Quantiles of transmission in which tokens compete, and in which evicted ones are merged."""
PREFERENCE = {"haze-first": 1.0, "proportional": 0.0, "clear-first": -1.0}
"""β of the quota n · (1 + β · (1 − mean t)) of a bin, by selection."""


@dataclass(frozen=True)
class Retention:
    """How many tokens a cache keeps, and which."""

    share: float
    """Of all tokens, in (0, 1]."""
    most: int
    selection: str = "haze-first"
    """A key of `PREFERENCE`, or "random"."""


class Candidates(NamedTuple):
    """Tokens of an image that its caches may keep, in any order."""

    values: Tensor
    """(n, 2) float32: mean transmission and contrast."""
    cells: Tensor
    """(n, 2) int64: row and column in the image's grid of candidates."""


class Members(NamedTuple):
    """The tokens that are kept, by row, then column."""

    cells: Tensor
    """(K, 2) int64: row and column in the image's grid of candidates."""
    bins: Tensor
    """(K,) int64 quantile of transmission, 0 being the haziest."""
    edges: Tensor
    """Transmission at which every bin but the first begins, float32."""
    evicted: int
    """Number of tokens that are merged."""

    def bin_of(self, transmission: Tensor) -> Tensor:
        """Return the bin of tokens of this transmission."""
        return torch.bucketize(transmission.contiguous(), self.edges, right=True)


def candidates_of(ranks: Tensor) -> Candidates:
    """Return the candidates of `ranks` (3, h, w), transmission, contrast, valid share, with a valid pixel."""
    cells = (ranks[2] > 0).nonzero()
    return Candidates(ranks[:2, cells[:, 0], cells[:, 1]].T.float(), cells)


def finalize_members(candidates: Candidates, retention: Retention) -> Members:
    """Return the members of an image's caches.

    Bins are quantiles of transmission; equal values are in one bin. A bin gets a quota by
    `quotas` and keeps its tokens of the largest contrast. Of tokens with the same transmission and
    contrast, which are copies, the first counts before every second one, so that a uniform area
    does not fill the cache; then the smaller row, then the smaller column. "random" has one bin
    and an order that follows from row and column alone.
    """
    values, cells = (field.numpy(force=True) for field in candidates)
    order = np.lexsort((cells[:, 1], cells[:, 0]))
    transmission, contrast, cells = values[order, 0], values[order, 1], cells[order]
    count = len(cells)
    kept = kept_tokens(count, retention.share, retention.most)
    is_random = retention.selection == "random"
    edges = np.zeros(0, np.float32)
    if kept and not is_random:
        bins = min(BINS, kept)
        edges = np.sort(transmission)[np.arange(1, bins) * count // bins]
    bin_of = np.searchsorted(edges, transmission, side="right")
    if not kept:
        chosen = np.zeros(0, np.int64)
    elif is_random:
        chosen = np.sort(np.argsort(_shuffled(cells), kind="stable")[:kept])
    else:
        quota = quotas(bin_of, transmission, kept, len(edges) + 1, PREFERENCE[retention.selection])
        chosen = _best(bin_of, transmission, contrast, quota)
    device = candidates.cells.device
    return Members(
        torch.from_numpy(cells[chosen]).to(device),
        torch.from_numpy(bin_of[chosen].astype(np.int64)).to(device),
        torch.from_numpy(edges).to(device),
        count - kept,
    )


def quotas(bin_of: Ints, transmission: Floats, kept: int, bins: int, preference: float) -> Ints:
    """Return how many tokens each bin keeps: in all `kept`, none more than it has.

    In proportion to n · (1 + β · (1 − mean t)); what a full bin cannot take goes to the others in
    the same proportion. A bin with tokens keeps at least one, into which its others are merged.
    Rounded by largest remainders, ties to the hazier bin.
    """
    sizes = np.bincount(bin_of, minlength=bins)
    means = np.bincount(bin_of, transmission, bins) / np.maximum(sizes, 1)
    shares = sizes * (1 + preference * (1 - means))
    wanted = np.zeros(bins)
    is_open = sizes > 0
    left = float(kept)
    while is_open.any():
        level = left / shares[is_open].sum()
        is_full = is_open & (shares * level >= sizes)
        if not is_full.any():
            wanted[is_open] = shares[is_open] * level
            break
        wanted[is_full] = sizes[is_full]
        left -= float(sizes[is_full].sum())
        is_open &= ~is_full
    quota = np.clip(np.floor(wanted + 1e-9).astype(np.int64), np.minimum(sizes, 1), sizes)
    while quota.sum() < kept:
        quota[np.argmax(np.where(quota < sizes, wanted - quota, -np.inf))] += 1
    while quota.sum() > kept:
        quota[np.argmax(np.where(quota > 1, quota - wanted, -np.inf))] -= 1
    return quota


def _best(bin_of: Ints, transmission: Floats, contrast: Floats, quota: Ints) -> Ints:
    """Return the indices of the tokens that are kept, ascending; tokens are in order of cells."""
    # Stable sorts: what is equal stays in order of row and column.
    alike = np.lexsort((contrast, transmission))
    is_first = np.ones(len(alike), bool)
    # Bins are intervals of transmission.
    is_first[1:] = np.diff(transmission[alike]).astype(bool) | np.diff(contrast[alike]).astype(bool)
    position = np.arange(len(alike))
    copy = np.empty(len(alike), np.int64)
    copy[alike] = position - np.maximum.accumulate(np.where(is_first, position, 0))
    order = np.lexsort((-contrast, copy, bin_of))
    starts = np.concatenate([[0], np.cumsum(np.bincount(bin_of, minlength=len(quota)))])
    return np.sort(np.concatenate([order[s : s + q] for s, q in zip(starts, quota, strict=False)]))


def _shuffled(cells: Ints) -> npt.NDArray[np.uint64]:
    """Return a pseudo-random number per cell that follows from its row and column alone."""
    # SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    state = (cells[:, 0].astype(np.uint64) << np.uint64(32)) + cells[:, 1].astype(np.uint64)
    state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class Cache(NamedTuple):
    """What the tokens of an image attend to in one global layer, or the kept tokens of it alone."""

    key: Tensor
    """(K, C), of unit length in every head but for the pre-norm twin."""
    value: Tensor
    """(K, C)."""
    weight: Tensor
    """(K,) tokens that each one stands for; one that is partly valid counts by its valid share."""

    @classmethod
    def of_rows(cls, rows: Tensor) -> Cache:
        """Return keys, values and weights in rows (K, 2C + 1)."""
        width = rows.shape[1] // 2
        keys, values, weights = torch.split(rows, [width, width, 1], 1)
        return cls(keys, values, weights[:, 0])


class TileTokens(NamedTuple):
    """Candidates of one tile's core at one layer."""

    keys: Tensor
    """(h, w, C)."""
    values: Tensor
    """(h, w, C)."""
    ranks: Tensor
    """(3, h, w): transmission, contrast, valid share, as `finalize_members` got them."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the first one in the image's grid of candidates."""

    def numbers(self, members: Members) -> Tensor:
        """Return the numbers of the members at their cells of the tile (h, w) int64, −1 elsewhere."""
        numbers = torch.full_like(self.ranks[2], -1, dtype=torch.int64)
        place = members.cells - members.cells.new_tensor(self.origin)
        inside = ((place >= 0) & (place < place.new_tensor(numbers.shape))).all(1).nonzero()[:, 0]
        numbers[tuple(place[inside].T)] = inside
        return numbers


def kept_rows(tile: TileTokens, members: Members) -> tuple[Tensor, Tensor]:
    """Return rows (h, w, 2C + 1) of key, value and weight, and whose they are (h, w): numbers or −1."""
    rows = torch.cat([tile.keys, tile.values, tile.ranks[2][..., None]], -1)
    return rows.double(), tile.numbers(members)


def merged_rows(tile: TileTokens, members: Members, joined: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (h, w, 2C + 1) that evicted tokens add to those they have `joined`, and to which.

    Keys and values are weighted; `joined` (h, w) is what `assigned` returns.
    """
    weight = tile.ranks[2][..., None].double()
    rows = torch.cat([tile.keys.double(), tile.values.double()], -1) * weight
    return torch.cat([rows, weight], -1), joined.where(tile.numbers(members) < 0, -1)


def added_up(rows: Tensor, into: Tensor, count: int) -> Tensor:
    """Return the sums (count, channels) of rows (…, channels), each added to the one `into` names; −1 to none."""
    rows, into = rows.flatten(0, -2), into.flatten()
    return rows.new_zeros(count, rows.shape[1]).index_add(0, into[into >= 0], rows[into >= 0])


@torch.no_grad()
def assigned(tile: TileTokens, members: Members, kept_keys: Tensor) -> Tensor:
    """Return the number of the member that each of the tile's tokens belongs to, (h, w) int64.

    An evicted token joins the kept one of its bin whose key has the largest cosine, the first of
    equals. Kept tokens, of these keys (K, C), have their own number, tokens without a valid pixel −1.
    """
    joined = torch.full_like(tile.ranks[2], -1, dtype=torch.int64)
    bins = members.bin_of(tile.ranks[0].float())
    is_valid = tile.ranks[2] > 0
    # As cosines over all heads, also where keys have other lengths.
    keys, kept_keys = unit(tile.keys), unit(kept_keys.to(tile.keys))
    for number in torch.unique(members.bins).tolist():
        here = is_valid & (bins == number)
        those = (members.bins == number).nonzero()[:, 0]
        likeness = keys[here] @ kept_keys[those].T
        joined[here] = those[likeness.argmax(1)] if likeness.numel() else joined[here]
    numbers = tile.numbers(members)
    return numbers.where(numbers >= 0, joined)


def finalize_cache(kept: Cache, merged: Cache, heads: int) -> Cache:
    """Return the cache from all kept tokens, and the sums over those that they take in, float64.

    Keys become the sum, of unit length in every head unless `heads` is 0 (then the mean); values
    the mean.
    """
    own = kept.weight[:, None]
    key, value = own * kept.key + merged.key, own * kept.value + merged.value
    mass = own + merged.weight[:, None]
    key = unit(torch.unflatten(key, -1, (heads, -1))).flatten(-2) if heads else key / mass
    return Cache(key, value / mass, mass[:, 0])
