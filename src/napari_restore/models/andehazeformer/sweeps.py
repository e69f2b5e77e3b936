"""anDehazeFormer as sweeps: tokens and the choice of kept ones, then the global layers, then pixels.

A global layer takes two: its evicted tokens are compared with the kept ones of the whole image, so
these are collected before, by the sweep that writes the layer's tokens. Only those of the first
layer have a sweep of their own, because the choice follows from the candidates of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput, cell_places
from napari_restore.models._sweeps import NUMBER, joined, listed
from napari_restore.models.andehazeformer.blocks import Guide, ranks_of
from napari_restore.models.andehazeformer.cache import (
    Cache,
    Candidates,
    Members,
    TileTokens,
    added_up,
    assigned,
    kept_rows,
    merged_rows,
)
from napari_restore.models.andehazeformer.config import BANDS
from napari_restore.models.andehazeformer.guided import maps_in
from napari_restore.models.andehazeformer.network import AnDehazeNetwork

Outputs = Mapping[str, Tensor]
Finalize = Callable[[Sums, Statistics], Statistics]
CHOICE = ("members", "edges", "evicted")
"""Statistics: (K, 3) row, column and bin of the kept tokens, (bins − 1,) and (), see `Members`."""
CANDIDATE = 5
"""Numbers of a candidate: transmission, contrast, valid share, row, column."""


def steps_of(model: AnDehazeNetwork) -> tuple[Sweep, ...]:
    """Return the sweeps of a network; without any cache nothing is counted."""
    steps = [_embed(model)]
    if model.cache_tokens:
        steps.append(_keep(model))
    for layer in range(model.config.pairs):
        if model.cache_tokens:
            steps.append(_merge(model, layer))
        steps.append(_attend(model, layer))
    return (*steps, _restore(model))


# -- sweeps ------------------------------------------------------------------------


def _embed(model: AnDehazeNetwork) -> Sweep:
    """Return the first sweep: it writes tokens and what ranks them, and counts candidates."""
    size = model.config.footprint

    def run(given: SweepInput) -> Outputs:
        planes, valid = seen(model, given)
        share, ranks = model.share(valid), ranks_of(planes, valid, size)
        guide = model.guide(given.statistics)
        tokens = _windowed(model, 0, model.tokens(planes), guide, share, given)
        outputs = {"tokens0": _as_map(tokens), "share": share[:, None], "ranks": ranks}
        if given.wants("candidates"):
            cells = [cell_places(at, ranks) for at in _cell_origins(model, given)]
            outputs["candidates"] = torch.cat([ranks.double(), torch.stack(cells)], 1)
        return outputs

    def finalize(sums: Sums, statistics: Statistics) -> Statistics:
        rows = sums["candidates"][0, : int(sums[NUMBER][0])]
        rows = rows[rows[:, 2] > 0]
        candidates = Candidates(rows[:, :2].float(), rows[:, 3:].long())
        members = model.finalize_members(candidates, statistics["strength"])
        table = torch.cat([members.cells, members.bins[:, None]], 1)
        return dict(
            zip(CHOICE, (table, members.edges, table.new_tensor(members.evicted)), strict=True)
        )

    counts = Counts(
        features=(Map("candidates", CANDIDATE, size),),
        shapes=lambda tile, _: {"candidates": ((tile // size) ** 2, CANDIDATE), NUMBER: ()},
        count=partial(listed, "candidates"),
        statistics=CHOICE,
        finalize=finalize,
        merge=partial(joined, "candidates"),
        choices=CHOICE,
    )
    return Sweep(
        "embed",
        "Tokens",
        run,
        writes=(
            _map_of(model, 0),
            # As they are: bins follow from their last bits.
            Map("share", 1, model.config.stride, "float32"),
            Map("ranks", 3, size, "float32"),
        ),
        halo=model.window_halo,
        counts=counts if model.cache_tokens else None,
    )


def _keep(model: AnDehazeNetwork) -> Sweep:
    """Return the sweep that collects the kept tokens of the first layer."""
    return Sweep(
        "keep1",
        "Kept tokens, layer 1",
        lambda given: _kept_features(model, 0, given, tokens_of(given, 0)),
        reads=("tokens0", "share", "ranks"),
        sees_image=False,
        counts=_kept_counts(model, 0),
    )


def _merge(model: AnDehazeNetwork, layer: int) -> Sweep:
    """Return the sweep that adds up what the kept tokens of a layer take in."""

    def run(given: SweepInput) -> Outputs:
        members, ranks = members_of(given.statistics), given.maps["ranks"]
        if not members.evicted:
            none = ranks.new_full((len(ranks), 1, *ranks.shape[2:]), -1, dtype=torch.float64)
            return {
                "token": torch.zeros_like(none).expand(-1, _channels(model), -1, -1),
                "into": none,
            }
        kept, found = Cache.of_rows(given.statistics[f"kept{layer}"]), []
        for tile in _tiles(model, layer, given, tokens_of(given, layer)):
            decide = partial(assigned, tile, members, kept.key)
            into = given.routing.fixed("into", decide) if given.routing else decide()
            found.append(merged_rows(tile, members, into))
        return _features(found)

    def finalize(sums: Sums, statistics: Statistics) -> Statistics:
        kept = Cache.of_rows(statistics[f"kept{layer}"])
        merged = Cache.of_rows(sums["tokens"][0, : len(kept.weight)])
        cache = model.finalize_cache(kept, merged)
        return {f"cache{layer}": torch.cat([cache.key, cache.value, cache.weight[:, None]], 1)}

    return Sweep(
        f"merge{layer + 1}",
        f"Merged tokens, layer {layer + 1}",
        run,
        reads=(f"tokens{layer}", "share", "ranks"),
        sees_image=False,
        counts=_counts(model, f"cache{layer}", finalize),
    )


def _attend(model: AnDehazeNetwork, layer: int) -> Sweep:
    """Return the sweep of a global layer and the windows behind it; it collects for the next."""
    following = layer + 1
    is_last = following == model.config.pairs
    counts = _kept_counts(model, following) if model.cache_tokens and not is_last else None
    reads = [f"tokens{layer}", *([] if is_last else ["share"]), *(["ranks"] if counts else [])]

    def run(given: SweepInput) -> Outputs:
        tokens, guide = tokens_of(given, layer), model.guide(given.statistics)
        caches = [cache_of(model, given.statistics, layer)]
        tokens = model.global_block(layer)(tokens, guide, caches)
        if not is_last:
            share = given.maps["share"][:, 0]
            tokens = _windowed(model, following, tokens, guide, share, given)
        outputs = {f"tokens{following}": _as_map(tokens)}
        if counts is not None and given.wants("token", "into"):
            outputs |= _kept_features(model, following, given, tokens)
        return outputs

    return Sweep(
        f"attend{following}",
        f"Attention, layer {following}",
        run,
        reads=tuple(reads),
        writes=(_map_of(model, following),),
        halo=0 if is_last else model.window_halo,
        sees_image=False,
        counts=counts,
    )


def _restore(model: AnDehazeNetwork) -> Sweep:
    pairs = model.config.pairs

    def run(given: SweepInput) -> Outputs:
        planes, _ = seen(model, given)
        y = model.reconstruct(tokens_of(given, pairs), planes)
        if given.valid is not None and given.view is not None:
            # Pixels beside nodata count nowhere, but are restored: from their own values.
            y = y + (given.view - planes[:, :BANDS])
        return {RESTORED: y, **maps_in(planes)}

    return Sweep(
        "restore",
        "Restoring",
        run,
        reads=(f"tokens{pairs}",),
        writes=(Map(RESTORED, BANDS), Map("transmission", 1), Map("airlight", BANDS)),
        halo=model.reconstruction_halo,
    )


# -- what is counted ---------------------------------------------------------------


def _kept_features(
    model: AnDehazeNetwork, layer: int, given: SweepInput, tokens: Tensor
) -> dict[str, Tensor]:
    """Return the features of kept tokens: keys, values and valid shares."""
    members = members_of(given.statistics)
    return _features([kept_rows(tile, members) for tile in _tiles(model, layer, given, tokens)])


def _kept_counts(model: AnDehazeNetwork, layer: int) -> Counts:
    """Return counts that collect the kept tokens of a layer."""

    def finalize(sums: Sums, statistics: Statistics) -> Statistics:
        # Each comes from one tile: sums of the others are 0.
        return {f"kept{layer}": sums["tokens"][0, : len(statistics["members"])]}

    return _counts(model, f"kept{layer}", finalize)


def _counts(model: AnDehazeNetwork, name: str, finalize: Finalize) -> Counts:
    """Return counts that add up the feature ``token`` by the number ``into`` of a kept token."""
    most, channels, size = model.cache_tokens, _channels(model), model.config.footprint

    def count(features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
        rows, into = features["token"].permute(0, 2, 3, 1), features["into"][:, 0].long()
        each = zip(rows, into, strict=True)
        return {"tokens": torch.stack([added_up(*one, most) for one in each])}

    return Counts(
        features=(Map("token", channels, size), Map("into", 1, size)),
        shapes={"tokens": (most, channels)},
        count=count,
        statistics=(name,),
        finalize=finalize,
    )


def _features(found: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return the features of tiles: what is added (h, w, 2C + 1), and to which kept token (h, w)."""
    tokens, numbers = zip(*found, strict=True)
    return {
        "token": torch.stack([token.permute(2, 0, 1) for token in tokens]),
        "into": torch.stack([number[None].double() for number in numbers]),
    }


def _channels(model: AnDehazeNetwork) -> int:
    """Return the numbers of a token that are added up: key, value, weight."""
    return 2 * model.config.width + 1


def members_of(statistics: Statistics) -> Members:
    """Return the kept tokens that the first sweep has counted."""
    table, edges, evicted = (statistics[name] for name in CHOICE)
    return Members(table[:, :2], table[:, 2], edges, int(evicted))


def cache_of(model: AnDehazeNetwork, statistics: Statistics, layer: int) -> Cache:
    """Return the cache of a layer, an empty one if the model has none."""
    if model.cache_tokens:
        return Cache.of_rows(statistics[f"cache{layer}"])
    return Cache.of_rows(statistics["texture"].new_zeros(0, _channels(model)))


# -- tiles -------------------------------------------------------------------------


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


def _tiles(
    model: AnDehazeNetwork, layer: int, given: SweepInput, tokens: Tensor
) -> list[TileTokens]:
    """Return the candidates of each tile, with its place."""
    share, guide = given.maps["share"][:, 0], model.guide(given.statistics)
    tiles = model.tile_tokens(layer, tokens, guide, share, given.maps["ranks"])
    origins = _cell_origins(model, given)
    return [tile._replace(origin=at) for tile, at in zip(tiles, origins, strict=True)]


def _cell_origins(model: AnDehazeNetwork, given: SweepInput) -> list[tuple[int, int]]:
    """Return the place of each tile in the grid of candidates."""
    side = model.config.footprint
    return [(y // side, x // side) for y, x in given.origins]


def _windowed(
    model: AnDehazeNetwork,
    layer: int,
    tokens: Tensor,
    guide: Guide,
    share: Tensor,
    given: SweepInput,
) -> Tensor:
    """Return tokens behind the window block of a layer; tiles may lie in windows differently."""
    origins, side = given.origins, model.window_halo
    if len({(y % side, x % side) for y, x in origins}) == 1:
        return model.window(layer, tokens, guide, share, origins[0])
    window = partial(model.window, layer)
    parts = [window(tokens[n : n + 1], guide, share[n : n + 1], at) for n, at in enumerate(origins)]
    return torch.cat(parts)


def _map_of(model: AnDehazeNetwork, layer: int) -> Map:
    return Map(f"tokens{layer}", model.config.width, model.config.stride)


def _as_map(tokens: Tensor) -> Tensor:
    return tokens.permute(0, 3, 1, 2)
