"""Where anDehazeFormer attends, and rows of its windows and of its caches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs, numbered
from napari_restore.models._steps import SweepInput
from napari_restore.models.andehazeformer._blocks import AttentionProjections
from napari_restore.models.andehazeformer._network import AnDehazeNetwork
from napari_restore.models.andehazeformer._tile_counts import cache_of, members_of, seen, tokens_of

EMBED, ATTEND = "embed", "attend"
WINDOWS, CACHES = "windows", "globals"


def sites_of(model: AnDehazeNetwork) -> tuple[AttentionSite, ...]:
    """Return the sites of a network: its windows and caches in turn; no caches if it has none."""
    found = []
    for layer in range(model.config.pairs):
        found.append(_window_site(model, layer))
        if model.cache_tokens:
            found.append(_cached_site(model, layer))
    return tuple(found)


def attention_of(model: AnDehazeNetwork, name: str) -> AttentionProjections:
    """Return the attention of the site of this name."""
    kind, _, number = name.rpartition(".")
    layer = int(number) - 1
    block = model.window_block(layer) if kind == WINDOWS else model.global_block(layer)
    return block.attention


@torch.no_grad()
def silence(attention: AttentionProjections, head: int) -> None:
    """Set what one head adds to zero, whatever it attends to."""
    attention.out.weight[:, head * attention.depth : (head + 1) * attention.depth] = 0


@torch.no_grad()
def rows_of(
    model: AnDehazeNetwork,
    step: str,
    given: SweepInput,
    pixel: tuple[int, int],
    names: frozenset[str],
) -> dict[str, AttentionRow]:
    """Return the rows of a pixel in those sites of a sweep that are named.

    `given` is that of one tile, `pixel` (row, column) in its box.
    """
    found = {}
    for site, layer, tokens, share in _read(model, step, given, names):
        if share is None:
            found[site.name] = _cached_row(model, layer, given, pixel, tokens)
        else:
            found[site.name] = _window_row(model, layer, given, pixel, (tokens, share))
    return found


@torch.no_grad()
def outputs_of(
    model: AnDehazeNetwork, step: str, given: SweepInput, names: frozenset[str]
) -> dict[str, HeadOutputs]:
    """Return what the heads put out in those sites of a sweep that are named, (h, w, d) each.

    `given` is that of one tile.
    """
    found, stride = {}, model.config.stride
    guide = model.guide(given.statistics)
    for site, layer, tokens, share in _read(model, step, given, names):
        if share is None:
            cache, block = cache_of(model, given.statistics, layer), model.global_block(layer)
            found[site.name] = block.head_outputs(tokens, (guide.texture, guide.tint), cache)
        else:
            origin, known = _cell(_origin(given), stride), share > 0
            found[site.name] = model.window_block(layer).head_outputs(
                tokens, (guide.texture, guide.tint), origin, known
            )
    return found


def _read(
    model: AnDehazeNetwork, step: str, given: SweepInput, names: frozenset[str]
) -> Iterator[tuple[AttentionSite, int, Tensor, Tensor | None]]:
    """Yield the sites of a sweep that are named, with their layer and what they read of a tile.

    It is tokens (1, h, w, C) and, of windows, their valid shares (1, h, w).
    """
    sites = {site.name: site for site in sites_of(model) if site.step == step}
    wanted = names & sites.keys()
    if not wanted:
        return
    if step == EMBED:
        planes, valid = seen(model, given)
        yield sites[_name(WINDOWS, 0)], 0, model.tokens(planes), model.share(valid)
        return
    following = int(step.removeprefix(ATTEND))
    tokens, layer = tokens_of(given, following - 1), following - 1
    cached, windows = _name(CACHES, layer), _name(WINDOWS, following)
    if cached in wanted:
        yield sites[cached], layer, tokens, None
    if windows in wanted:
        guide, cache = model.guide(given.statistics), cache_of(model, given.statistics, layer)
        tokens = model.global_block(layer)(tokens, guide.texture, guide.tint, [cache])
        yield sites[windows], following, tokens, given.maps["share"][:, 0]


def _window_row(
    model: AnDehazeNetwork,
    layer: int,
    given: SweepInput,
    pixel: tuple[int, int],
    read: tuple[Tensor, Tensor],
) -> AttentionRow:
    """Return a row of windows that `read` tokens (1, h, w, C) of these valid shares (1, h, w)."""
    tokens, share = read
    stride, guide = model.config.stride, model.guide(given.statistics)
    query = _cell(pixel, stride)
    weights, cells = model.window_block(layer).row(
        tokens,
        (guide.texture, guide.tint),
        _cell(_origin(given), stride),
        share[0] > 0,
        query,
    )
    every = cells.expand(len(weights), *cells.shape)
    return AttentionRow(weights.to(torch.float32), every, query)


def _cached_row(
    model: AnDehazeNetwork,
    layer: int,
    given: SweepInput,
    pixel: tuple[int, int],
    tokens: Tensor,
) -> AttentionRow:
    """Return a row of the cache that `tokens` (1, h, w, C) attend to; see `_cached_site`.

    Numbers of the kept tokens, (K,) each: ``weight``, how many tokens it stands for (one that is
    partly valid counts by its valid share); ``merged``, how much of this it took in, 0 where it
    stands for itself alone; ``eighth``, its quantile of transmission, 0 being the haziest. A place
    that is not among the cells was merged, or has no valid pixel.
    """
    stride, guide, statistics = model.config.stride, model.guide(given.statistics), given.statistics
    cache, members = cache_of(model, statistics, layer), members_of(statistics)
    block = model.global_block(layer)
    weights = block.row(tokens, (guide.texture, guide.tint), cache, _cell(pixel, stride))
    y, x = _origin(given)
    numbers = {
        "weight": cache.weight,
        "merged": cache.weight - statistics[f"kept{layer}"][:, -1].to(cache.weight),
        "eighth": members.bins,
    }
    return AttentionRow(
        weights.to(torch.float32),
        members.cells.expand(len(weights), *members.cells.shape),
        _cell((pixel[0] + y, pixel[1] + x), stride),
        numbers,
    )


def _window_site(model: AnDehazeNetwork, layer: int) -> AttentionSite:
    attention = model.window_block(layer).attention
    shifted = ", shifted" if attention.shift else ""
    return AttentionSite(
        _name(WINDOWS, layer),
        f"windows {layer + 1}{shifted}",
        "window",
        f"{ATTEND}{layer}" if layer else EMBED,
        model.config.stride,
        numbered(attention.heads),
        attention.side,
        # Windows are moved up and left here.
        -attention.shift % attention.side,
    )


def _cached_site(model: AnDehazeNetwork, layer: int) -> AttentionSite:
    """Return the site of a cache: kept tokens lie anywhere in the image and are larger."""
    return AttentionSite(
        _name(CACHES, layer),
        f"cache {layer + 1}",
        "cached",
        f"{ATTEND}{layer + 1}",
        model.config.stride,
        numbered(model.global_block(layer).attention.heads),
        placed=True,
        key_stride=model.config.footprint,
    )


def _name(part: str, layer: int) -> str:
    return f"{part}.{layer + 1}"


def _origin(given: SweepInput) -> tuple[int, int]:
    """Return row and column of the box's first pixel in the image."""
    y, x = given.statistics["origin"][0].tolist()
    return y, x


def _cell(pixel: tuple[int, int], stride: int) -> tuple[int, int]:
    return pixel[0] // stride, pixel[1] // stride
