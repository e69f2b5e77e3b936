"""anDehazeFormer as sweeps: tokens and the choice of kept ones, then the global layers, then pixels.

A global layer takes two: its evicted tokens are compared with the kept ones of the whole image, so
these are collected before, by the sweep that writes the layer's tokens. Only those of the first
layer have a sweep of their own, because the choice follows from the candidates of the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs
from napari_restore.models._card import ModelCard
from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import NUMBER, joined
from napari_restore.models.andehazeformer._attention import (
    attention_of,
    outputs_of,
    rows_of,
    silence,
    sites_of,
)
from napari_restore.models.andehazeformer._cache import Merged, assigned, numbers_of
from napari_restore.models.andehazeformer._config import BANDS, SMALL
from napari_restore.models.andehazeformer._guided import Guide, maps_in
from napari_restore.models.andehazeformer._members import Candidates
from napari_restore.models.andehazeformer._network import AnDehazeNetwork
from napari_restore.models.andehazeformer._tile_counts import (
    CANDIDATE,
    CHOICE,
    cache_of,
    cell_origins,
    channels_of,
    counts_of,
    features_of,
    fields_of,
    kept_counts,
    kept_features,
    kept_of,
    members_of,
    seen,
    tiles_of,
    tokens_of,
)

Outputs = Mapping[str, Tensor]


class AnDehazeFormer(AnDehazeNetwork):
    """anDehazeFormer as a model that the engine sweeps."""

    def steps(self) -> tuple[Sweep, ...]:
        return steps_of(self)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        return sites_of(self)

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        return rows_of(self, step, given, pixel, names)

    def without_head(self, site: str, head: int) -> AnDehazeFormer:
        model = self._copy_without(site, head)
        silence(attention_of(model, site), head)
        return model

    @property
    def gives_head_outputs(self) -> bool:
        return True

    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        return outputs_of(self, step, given, names)


def make_small(
    card: ModelCard, context: int = 0, looks: int = 2, normalised: int = 1
) -> AnDehazeFormer:
    """Return the small network; `normalised` 0 is its pre-norm twin."""
    return AnDehazeFormer(card, replace(SMALL, normalised=bool(normalised)), context, looks)


def steps_of(model: AnDehazeNetwork) -> tuple[Sweep, ...]:
    """Return the sweeps of a network; without any cache nothing is counted."""
    layers = range(model.config.pairs)
    steps = [_embed(model)]
    if model.cache_tokens:
        steps.append(_keep(model))
    for layer in layers:
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
        share, ranks = model.share(valid), model.rank(planes, valid)
        guide = model.guide(given.statistics)
        tokens = _windowed(model, 0, model.tokens(planes), guide, share, given)
        outputs = {"tokens0": _as_map(tokens), "share": share[:, None], "ranks": ranks}
        if given.wants("candidates"):
            cells = [_cells(origin, ranks) for origin in cell_origins(model, given)]
            outputs["candidates"] = torch.cat([ranks.double(), torch.stack(cells)], 1)
        return outputs

    def count(features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
        rows = features["candidates"].flatten(2).transpose(1, 2)
        return {"candidates": rows, NUMBER: rows.new_full((len(rows),), rows.shape[1])}

    def settle(sums: Sums, statistics: Statistics) -> Statistics:
        rows = sums["candidates"][0, : int(sums[NUMBER][0])]
        rows = rows[rows[:, 2] > 0]
        candidates = Candidates(rows[:, :2].float(), rows[:, 3:].long())
        members = model.settle_members([candidates], statistics["strength"])
        table = torch.cat([members.cells, members.bins[:, None]], 1)
        return dict(
            zip(CHOICE, (table, members.edges, table.new_tensor(members.evicted)), strict=True)
        )

    counts = Counts(
        features=(Map("candidates", CANDIDATE, size),),
        shapes=lambda tile, _: {"candidates": ((tile // size) ** 2, CANDIDATE), NUMBER: ()},
        count=count,
        settles=CHOICE,
        settle=settle,
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
        lambda given: kept_features(model, 0, given, tokens_of(given, 0)),
        reads=("tokens0", "share", "ranks"),
        sees_image=False,
        counts=kept_counts(model, 0),
    )


def _merge(model: AnDehazeNetwork, layer: int) -> Sweep:
    """Return the sweep that adds up what the kept tokens of a layer take in."""
    channels = channels_of(model)

    def run(given: SweepInput) -> Outputs:
        members, ranks = members_of(given.statistics), given.maps["ranks"]
        if not members.evicted:
            none = ranks.new_full((len(ranks), 1, *ranks.shape[2:]), -1, dtype=torch.float64)
            return {"token": none.new_zeros(none.shape).expand(-1, channels, -1, -1), "into": none}
        rows = given.statistics[f"kept{layer}"]
        found = []
        for tile in tiles_of(model, layer, given, tokens_of(given, layer)):
            kept = kept_of(rows.to(tile.keys))
            decide = partial(assigned, tile, members, kept)
            into = given.routing.fixed("into", decide) if given.routing else decide()
            into = into.where(numbers_of(tile, members) < 0, -1)
            weight = tile.ranks[2][..., None].double()
            token = torch.cat([tile.keys.double(), tile.values.double()], -1) * weight
            found.append((torch.cat([token, weight], -1), into))
        return features_of(found)

    def settle(sums: Sums, statistics: Statistics) -> Statistics:
        kept = kept_of(statistics[f"kept{layer}"])
        sum_of = Merged(*fields_of(sums["tokens"][0, : len(kept.number)]))
        cache = model.settle_cache(kept, [sum_of])
        table = torch.cat([cache.key, cache.value, cache.weight[:, None]], 1)
        return {f"cache{layer}": table}

    return Sweep(
        f"merge{layer + 1}",
        f"Merged tokens, layer {layer + 1}",
        run,
        reads=(f"tokens{layer}", "share", "ranks"),
        sees_image=False,
        counts=counts_of(model, f"cache{layer}", settle),
    )


def _attend(model: AnDehazeNetwork, layer: int) -> Sweep:
    """Return the sweep of a global layer and the windows behind it; it collects for the next."""
    following = layer + 1
    is_last = following == model.config.pairs
    counts = kept_counts(model, following) if model.cache_tokens and not is_last else None
    reads = [f"tokens{layer}", *([] if is_last else ["share"]), *(["ranks"] if counts else [])]

    def run(given: SweepInput) -> Outputs:
        tokens, guide = tokens_of(given, layer), model.guide(given.statistics)
        caches = [cache_of(model, given.statistics, layer)]
        tokens = model.global_block(layer)(tokens, guide.texture, guide.tint, caches)
        if not is_last:
            share = given.maps["share"][:, 0]
            tokens = _windowed(model, following, tokens, guide, share, given)
        outputs = {f"tokens{following}": _as_map(tokens)}
        if counts is not None and given.wants("token", "into"):
            outputs |= kept_features(model, following, given, tokens)
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


# -- tiles ------------------------------------------------------------------------


def _windowed(
    model: AnDehazeNetwork,
    layer: int,
    tokens: Tensor,
    guide: Guide,
    share: Tensor,
    given: SweepInput,
) -> Tensor:
    """Return tokens behind the window block of a layer; tiles may lie in windows differently."""
    origins = [(y, x) for y, x in given.statistics["origin"].tolist()]
    side = model.window_halo
    if len({(y % side, x % side) for y, x in origins}) == 1:
        return model.window(layer, tokens, guide, share, origins[0])
    window = partial(model.window, layer)
    parts = [window(tokens[n : n + 1], guide, share[n : n + 1], at) for n, at in enumerate(origins)]
    return torch.cat(parts)


def _cells(origin: tuple[int, int], like: Tensor) -> Tensor:
    """Return row and column (2, h, w) float64 of the cells of a map `like` it."""
    y, x = (
        torch.arange(start, start + count, device=like.device, dtype=torch.float64)
        for start, count in zip(origin, like.shape[2:], strict=True)
    )
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def _map_of(model: AnDehazeNetwork, layer: int) -> Map:
    return Map(f"tokens{layer}", model.config.width, model.config.stride)


def _as_map(tokens: Tensor) -> Tensor:
    return tokens.permute(0, 3, 1, 2)
