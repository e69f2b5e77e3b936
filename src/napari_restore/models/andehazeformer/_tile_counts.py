"""What the sweeps of anDehazeFormer count: candidates, kept tokens, and what they take in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from napari_restore.models._model import Statistics
from napari_restore.models._steps import Counts, Map, Sums, SweepInput
from napari_restore.models.andehazeformer._cache import Cache, KeptTokens, TileTokens, numbers_of
from napari_restore.models.andehazeformer._members import Members
from napari_restore.models.andehazeformer._network import AnDehazeNetwork

Settle = Callable[[Sums, Statistics], Statistics]
CHOICE = ("members", "edges", "evicted")
"""Statistics: (K, 3) row, column and bin of the kept tokens, (bins − 1,) and (), see `Members`."""
CANDIDATE = 5
"""Numbers of a candidate: transmission, contrast, valid share, row, column."""


def kept_features(
    model: AnDehazeNetwork, layer: int, given: SweepInput, tokens: Tensor
) -> dict[str, Tensor]:
    """Return the features of kept tokens: keys, values and valid shares."""
    members = members_of(given.statistics)
    return features_of(
        [
            (
                torch.cat([tile.keys, tile.values, tile.ranks[2][..., None]], -1).double(),
                numbers_of(tile, members),
            )
            for tile in tiles_of(model, layer, given, tokens)
        ]
    )


def kept_counts(model: AnDehazeNetwork, layer: int) -> Counts:
    """Return counts that collect the kept tokens of a layer."""

    def settle(sums: Sums, statistics: Statistics) -> Statistics:
        # Each comes from one tile: sums of the others are 0.
        return {f"kept{layer}": sums["tokens"][0, : len(statistics["members"])]}

    return counts_of(model, f"kept{layer}", settle)


def counts_of(model: AnDehazeNetwork, name: str, settle: Settle) -> Counts:
    """Return counts that add up the feature ``token`` by the number ``into`` of a kept token."""
    most, channels, size = model.cache_tokens, channels_of(model), model.config.footprint

    def count(features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
        rows = features["token"].flatten(2).transpose(1, 2)
        numbers = features["into"].flatten(1).long()
        sums = [
            each.new_zeros(most, channels).index_add(0, into[into >= 0], each[into >= 0])
            for each, into in zip(rows, numbers, strict=True)
        ]
        return {"tokens": torch.stack(sums)}

    return Counts(
        features=(Map("token", channels, size), Map("into", 1, size)),
        shapes={"tokens": (most, channels)},
        count=count,
        settles=(name,),
        settle=settle,
    )


def features_of(found: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return the features of tiles: what is added (h, w, 2C + 1), and to which kept token (h, w)."""
    tokens, numbers = zip(*found, strict=True)
    return {
        "token": torch.stack([token.permute(2, 0, 1) for token in tokens]),
        "into": torch.stack([number[None].double() for number in numbers]),
    }


def members_of(statistics: Statistics) -> Members:
    """Return the kept tokens that the first sweep has settled."""
    table, edges, evicted = (statistics[name] for name in CHOICE)
    return Members(table[:, :2], table[:, 2], edges, int(evicted))


def kept_of(rows: Tensor) -> KeptTokens:
    """Return kept tokens of rows (K, 2C + 1)."""
    return KeptTokens(torch.arange(len(rows), device=rows.device), *fields_of(rows))


def cache_of(model: AnDehazeNetwork, statistics: Statistics, layer: int) -> Cache:
    """Return the cache of a layer, an empty one if the model has none."""
    if model.cache_tokens:
        return Cache(*fields_of(statistics[f"cache{layer}"]))
    return Cache(*fields_of(statistics["texture"].new_zeros(0, channels_of(model))))


def fields_of(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys, values and weights of rows (K, 2C + 1)."""
    width = rows.shape[1] // 2
    keys, values, weights = torch.split(rows, [width, width, 1], 1)
    return keys, values, weights[:, 0]


def channels_of(model: AnDehazeNetwork) -> int:
    """Return the numbers of a token that are added up: key, value, weight."""
    return 2 * model.config.width + 1


def tiles_of(
    model: AnDehazeNetwork, layer: int, given: SweepInput, tokens: Tensor
) -> list[TileTokens]:
    """Return the candidates of each tile, with its place."""
    share, guide = given.maps["share"][:, 0], model.guide(given.statistics)
    tiles = model.tile_tokens(layer, tokens, guide, share, given.maps["ranks"])
    origins = cell_origins(model, given)
    return [tile._replace(origin=at) for tile, at in zip(tiles, origins, strict=True)]


def cell_origins(model: AnDehazeNetwork, given: SweepInput) -> list[tuple[int, int]]:
    """Return the place of each tile in the grid of candidates."""
    return [model.cell((y, x)) for y, x in given.statistics["origin"].tolist()]


def seen(model: AnDehazeNetwork, given: SweepInput) -> tuple[Tensor, Tensor]:
    """Return the planes (N, 10, h, w), and which pixels count (N, 1, h, w) bool."""
    x = given.view
    assert x is not None
    valid = given.valid
    if valid is None:
        valid = torch.ones_like(x[:, :1], dtype=torch.bool)
    return model.planes(x, given.statistics, valid), valid


def tokens_of(given: SweepInput, layer: int) -> Tensor:
    """Return tokens (N, h, w, C) of a map."""
    return given.maps[f"tokens{layer}"].permute(0, 2, 3, 1)
