"""anDehazeFormer as a model that the engine sweeps, with its layers of attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs, numbered
from napari_restore.models._card import ModelCard
from napari_restore.models._steps import Sweep, SweepInput
from napari_restore.models.andehazeformer.blocks import AttentionProjections
from napari_restore.models.andehazeformer.config import SMALL
from napari_restore.models.andehazeformer.network import AnDehazeNetwork
from napari_restore.models.andehazeformer.sweeps import (
    cache_of,
    members_of,
    seen,
    steps_of,
    tokens_of,
)

EMBED, ATTEND = "embed", "attend"
WINDOWS, CACHES = "windows", "globals"


class AnDehazeFormer(AnDehazeNetwork):
    """anDehazeFormer as a model that the engine sweeps."""

    gives_head_outputs = True

    def steps(self) -> tuple[Sweep, ...]:
        return steps_of(self)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return windows and caches in turn; no caches if it has none."""
        found = []
        for layer in range(self.config.pairs):
            found.append(self._window_site(layer))
            if self.cache_tokens:
                found.append(self._cached_site(layer))
        return tuple(found)

    @torch.no_grad()
    def without_head(self, site: str, head: int) -> AnDehazeFormer:
        model = self._copy_without(site, head)
        attention = model._attention_of(site)
        attention.out.weight[:, head * attention.depth : (head + 1) * attention.depth] = 0
        return model

    @torch.no_grad()
    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        found = {}
        for site, layer, tokens, share in self._read(step, given, names):
            if share is None:
                found[site.name] = self._cached_row(layer, given, pixel, tokens)
            else:
                found[site.name] = self._window_row(layer, given, pixel, (tokens, share))
        return found

    @torch.no_grad()
    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        found, guide = {}, self.guide(given.statistics)
        for site, layer, tokens, share in self._read(step, given, names):
            if share is None:
                cache = cache_of(self, given.statistics, layer)
                found[site.name] = self.global_block(layer).head_outputs(tokens, guide, cache)
            else:
                origin = self._cell_of(given.origins[0])
                block = self.window_block(layer)
                found[site.name] = block.head_outputs(tokens, guide, origin, share > 0)
        return found

    def _read(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> Iterator[tuple[AttentionSite, int, Tensor, Tensor | None]]:
        """Yield the sites of a sweep that are named, with their layer and what they read of a tile.

        It is tokens (1, h, w, C) and, of windows, their valid shares (1, h, w).
        """
        sites = {site.name: site for site in self.attention_sites() if site.step == step}
        wanted = names & sites.keys()
        if not wanted:
            return
        if step == EMBED:
            planes, valid = seen(self, given)
            yield sites[_name(WINDOWS, 0)], 0, self.tokens(planes), self.share(valid)
            return
        following = int(step.removeprefix(ATTEND))
        tokens, layer = tokens_of(given, following - 1), following - 1
        cached, windows = _name(CACHES, layer), _name(WINDOWS, following)
        if cached in wanted:
            yield sites[cached], layer, tokens, None
        if windows in wanted:
            guide, cache = self.guide(given.statistics), cache_of(self, given.statistics, layer)
            tokens = self.global_block(layer)(tokens, guide, [cache])
            yield sites[windows], following, tokens, given.maps["share"][:, 0]

    def _window_row(
        self, layer: int, given: SweepInput, pixel: tuple[int, int], read: tuple[Tensor, Tensor]
    ) -> AttentionRow:
        """Return a row of windows that `read` tokens (1, h, w, C) of these valid shares (1, h, w)."""
        tokens, share = read
        query, guide = self._cell_of(pixel), self.guide(given.statistics)
        weights, cells = self.window_block(layer).row(
            tokens,
            guide,
            self._cell_of(given.origins[0]),
            share[0] > 0,
            query,
        )
        return AttentionRow.of_heads(weights, cells, query)

    def _cached_row(
        self, layer: int, given: SweepInput, pixel: tuple[int, int], tokens: Tensor
    ) -> AttentionRow:
        """Return a row of the cache that `tokens` (1, h, w, C) attend to; see `_cached_site`.

        Numbers of the kept tokens, (K,) each: ``weight``, how many tokens it stands for (one that is
        partly valid counts by its valid share); ``merged``, how much of this it took in, 0 where it
        stands for itself alone; ``eighth``, its quantile of transmission, 0 being the haziest. A
        place that is not among the cells was merged, or has no valid pixel.
        """
        guide, statistics = self.guide(given.statistics), given.statistics
        cache, members = cache_of(self, statistics, layer), members_of(statistics)
        query = self._cell_of(pixel)
        weights = self.global_block(layer).row(tokens, guide, cache, query)
        (y, x), (row, column) = given.origins[0], pixel
        numbers = {
            "weight": cache.weight,
            "merged": cache.weight - statistics[f"kept{layer}"][:, -1].to(cache.weight),
            "eighth": members.bins,
        }
        place = self._cell_of((row + y, column + x))
        return AttentionRow.of_heads(weights, members.cells, place, numbers)

    def _window_site(self, layer: int) -> AttentionSite:
        attention = self.window_block(layer).attention
        shifted = ", shifted" if attention.shift else ""
        return AttentionSite(
            _name(WINDOWS, layer),
            f"windows {layer + 1}{shifted}",
            "window",
            f"{ATTEND}{layer}" if layer else EMBED,
            self.config.stride,
            numbered(attention.heads),
            attention.side,
            # Windows are moved up and left here.
            -attention.shift % attention.side,
        )

    def _cached_site(self, layer: int) -> AttentionSite:
        """Return the site of a cache: kept tokens lie anywhere in the image and are larger."""
        return AttentionSite(
            _name(CACHES, layer),
            f"cache {layer + 1}",
            "cached",
            f"{ATTEND}{layer + 1}",
            self.config.stride,
            numbered(self.global_block(layer).attention.heads),
            placed=True,
            key_stride=self.config.footprint,
        )

    def _attention_of(self, name: str) -> AttentionProjections:
        """Return the attention of the site of this name."""
        kind, _, number = name.rpartition(".")
        block_of = self.window_block if kind == WINDOWS else self.global_block
        return block_of(int(number) - 1).attention

    def _cell_of(self, pixel: tuple[int, int]) -> tuple[int, int]:
        return pixel[0] // self.config.stride, pixel[1] // self.config.stride


def make_small(
    card: ModelCard, context: int = 0, looks: int = 2, normalised: int = 1
) -> AnDehazeFormer:
    """Return the small network; `normalised` 0 is its pre-norm twin."""
    return AnDehazeFormer(card, replace(SMALL, normalised=bool(normalised)), context, looks)


def _name(part: str, layer: int) -> str:
    return f"{part}.{layer + 1}"
