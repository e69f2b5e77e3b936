"""anDehazeFormer: windows, and a cache of the whole image that every token attends to."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, layer_norm, pixel_shuffle, relu

from napari_restore.models._card import ModelCard
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import Statistics, each_image
from napari_restore.models.andehazeformer.blocks import (
    CachedAttention,
    Embedding,
    GlobalBlock,
    Guide,
    WindowAttention,
    WindowBlock,
    ranks_of,
)
from napari_restore.models.andehazeformer.cache import (
    Cache,
    Candidates,
    Members,
    Retention,
    TileTokens,
    added_up,
    assigned,
    candidates_of,
    finalize_cache,
    finalize_members,
    kept_rows,
    merged_rows,
)
from napari_restore.models.andehazeformer.config import BANDS, PLANES, AnDehazeConfig
from napari_restore.models.andehazeformer.guided import GuidedModel, maps_in
from napari_restore.models.andehazeformer.sphere import renormalise

Origin = tuple[int, int]
"""y, x in pixels of the image, multiples of 16."""


class AnDehazeNetwork(GuidedModel):
    """Tokens of 8 × 8 pixels: window and global blocks in turn, then a guided reconstruction.

    An image is first grown to multiples of 16 pixels by reflection at bottom and right. All is made
    of functions of a tile that begins at a multiple of 16 pixels; `steps` of
    `AnDehazeFormer` are sweeps that call them. In training a batch of whole images goes through the
    same functions at once.

    Invalid pixels count nowhere. Arithmetic is in the dtype of the weights, that of pixels in their
    own.

    Source: anDehazeFormer (arXiv 2505.14010), of which its abstract and summaries by others are
    known; nGPT (Loshchilov et al., ICLR 2025). docs/models/andehazeformer.md lists our choices.
    """

    def __init__(
        self, card: ModelCard, config: AnDehazeConfig, context: int = 0, looks: int = 2
    ) -> None:
        super().__init__(card, config, context, looks)
        values = card.values
        self.amount = float(values.get("amount", 1.0))
        self.rho, self.eta = float(values.get("rho", 0.6)), float(values.get("eta", 0.4))
        self.is_adaptive = values.get("retention", "fixed") == "adaptive"
        self.cache_tokens = int(values.get("cache_tokens", 1024))
        self.selection = str(values.get("selection", "haze-first"))
        self.embedding = Embedding(config)
        shifts = (0, config.window // 2)
        self.windows = nn.ModuleList(
            WindowBlock(config, WindowAttention(config, shifts[layer % 2]))
            for layer in range(config.pairs)
        )
        self.globals = nn.ModuleList(
            GlobalBlock(config, CachedAttention(config)) for _ in range(config.pairs)
        )
        self.reconstruction = Reconstruction(config)
        scales = range(len(config.widths))
        self.ends = (
            "reconstruction.coarse.weight",
            *(f"reconstruction.scales.{scale}.change.weight" for scale in scales),
        )

    @property
    def window_halo(self) -> int:
        """Pixels around a core that its windows reach, wherever it lies."""
        return self.config.stride * self.config.window

    @property
    def reconstruction_halo(self) -> int:
        """Pixels around a core that its reconstruction depends on."""
        return -(-HALO // self.config.footprint) * self.config.footprint

    def after_step(self) -> None:
        renormalise(self)

    # -- functions of a tile -------------------------------------------------------

    def share(self, valid: Tensor) -> Tensor:
        """Return the valid share (N, h, w) of every token's pixels, of `valid` (N, 1, H, W)."""
        return avg_pool2d(valid.float(), self.config.stride)[:, 0]

    def tokens(self, view: Tensor) -> Tensor:
        """Return tokens (N, h, w, C) of a view, before any block."""
        out: Tensor = self.embedding(view[:, :PLANES].to(self.embedding.patch.weight.dtype))
        return out

    def finalize_members(self, candidates: Candidates, strength: Tensor) -> Members:
        """Return the members of an image's caches; `strength` () is its c_a."""
        kept = max(self.rho, 1 - self.eta * float(strength)) if self.is_adaptive else self.rho
        return finalize_members(candidates, Retention(kept, self.cache_tokens, self.selection))

    def tile_tokens(
        self, layer: int, tokens: Tensor, guide: Guide, share: Tensor, ranks: Tensor
    ) -> list[TileTokens]:
        """Return the candidates of each core at a global layer, for both rounds over the tiles.

        `tokens` (N, h, w, C) before the layer, `share` (N, h, w), `ranks` (N, 3, h / 2, w / 2).
        """
        keys, values = self.global_block(layer).candidates(tokens, guide, share, self.config.pool)
        return [TileTokens(*one) for one in zip(keys, values, ranks, strict=True)]

    def finalize_cache(self, kept: Cache, merged: Cache) -> Cache:
        """Return the cache of a layer from the sums over all cores."""
        return finalize_cache(kept, merged, self.config.heads if self.config.normalised else 0)

    def reconstruct(self, tokens: Tensor, view: Tensor) -> Tensor:
        """Return restored pixels (N, 3, H, W) from the last tokens and the view."""
        if not self.config.normalised:
            tokens = layer_norm(tokens, tokens.shape[-1:])
        x, left, transmission, airlight = torch.split(view, [BANDS, BANDS, 1, BANDS], 1)
        base = x if self.atmosphere is None else left
        added: Tensor = self.amount * self.reconstruction(tokens, base, transmission, airlight)
        if self.atmosphere is not None:
            added = added * self.atmosphere.gate(transmission)
        return base + added

    # -- a whole image -------------------------------------------------------------

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if statistics is None and self.training:
            return self._observed(x, valid)
        if statistics is None or len(x) == 1 or all(name in statistics for name in self.counted):
            return super().forward_with_maps(x, statistics, valid)
        # What sweeps count has no axis of images.
        found, origins = [], torch.split(statistics["origin"], 1)
        for (one, known), origin in zip(each_image(x, valid), origins, strict=True):
            found.append(super().forward_with_maps(one, {**statistics, "origin": origin}, known))
        maps = {name: torch.cat([own[name] for _, own in found]) for name in self.card.maps}
        return torch.cat([y for y, _ in found]), maps

    def side_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        if statistics is None:
            return super().side_maps(x, statistics, valid)
        return maps_in(self.planes(x, statistics, valid))

    def _observed(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return N restored images and their maps, all at once, with gradients everywhere."""
        height, width = x.shape[2:]
        if valid is None:
            valid = x.new_ones((len(x), 1, height, width), dtype=torch.bool)
        whole, known = (pad_to_multiple(each, self.multiple) for each in (x, valid))
        planes, guide = self.observe(whole, known)
        y = self.reconstruct(self.relate(planes, guide, known), planes)
        cropped = {name: plane[..., :height, :width] for name, plane in maps_in(planes).items()}
        return y[..., :height, :width], cropped

    def relate(self, view: Tensor, guide: Guide, valid: Tensor) -> Tensor:
        """Return the last tokens (N, h, w, C) of the views of N whole images."""
        share, ranks = self.share(valid), ranks_of(view, valid, self.config.footprint)
        tokens = self.window(0, self.tokens(view), guide, share, (0, 0))
        strengths = guide.strength.expand(len(view))
        members = [
            self.finalize_members(candidates_of(one), strength)
            for one, strength in zip(ranks, strengths, strict=True)
        ]
        for layer in range(self.config.pairs):
            tiles = self.tile_tokens(layer, tokens, guide, share, ranks)
            caches = [self.cache(*pair) for pair in zip(tiles, members, strict=True)]
            tokens = self.global_block(layer)(tokens, guide, caches)
            if layer + 1 < self.config.pairs:
                tokens = self.window(layer + 1, tokens, guide, share, (0, 0))
        return tokens

    def cache(self, tile: TileTokens, members: Members) -> Cache:
        """Return the cache of a layer for an image that is one tile."""
        count = len(members.cells)
        kept = Cache.of_rows(added_up(*kept_rows(tile, members), count))
        joined = assigned(tile, members, kept.key)
        merged = added_up(*merged_rows(tile, members, joined), count)
        key, value, weight = self.finalize_cache(kept, Cache.of_rows(merged))
        # Weights are of valid pixels. With a gradient of its mask, torch attends by another kernel.
        return Cache(key.to(tile.keys), value.to(tile.values), weight.detach())

    def global_block(self, layer: int) -> GlobalBlock:
        """Return the block of a global layer."""
        return cast("GlobalBlock", self.globals[layer])

    def window_block(self, layer: int) -> WindowBlock:
        """Return the window block of a layer."""
        return cast("WindowBlock", self.windows[layer])

    def window(
        self, layer: int, tokens: Tensor, guide: Guide, share: Tensor, origin: Origin
    ) -> Tensor:
        """Return tokens (N, h, w, C) behind the window block of a layer."""
        y, x = (at // self.config.stride for at in origin)
        block = self.window_block(layer)
        out: Tensor = block(tokens, guide, (y, x), share > 0)
        return out


OUTPUTS = 1 + BANDS
"""K, one for all bands so that no colour shifts, and B."""
HALO = 24
"""Pixels around a pixel that its reconstruction depends on, at most, behind its token."""


class ReconstructionHead(nn.Conv2d):
    """K and B (N, 4, h, w) from features, 0 at first."""

    # Divided by √C: Adam moves each of the C weights of a value by about its learning rate, and one
    # step must not overshoot.
    def __init__(self, features: int) -> None:
        super().__init__(features, OUTPUTS, 1)
        self.gain: float = features**-0.5
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * super().forward(x)


class UpscaleStep(nn.Module):
    """Doubles the features' size and corrects K and B, given what those of the scale before make.

    The features see the image at this scale, the image restored so far, and the transmission.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(before, 4 * width, 1)
        self.mix = nn.Conv2d(width + 2 * BANDS + 1, width, 3, padding=1)
        self.change = ReconstructionHead(width)

    def forward(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (N, width, 2h, 2w) and the correction (N, 4, 2h, 2w).

        `seen` (N, 7, 2h, 2w): image, image restored so far, transmission.
        """
        features = pixel_shuffle(self.up(features), 2)
        features = features + relu(self.mix(torch.cat([features, seen.to(features)], 1)))
        return features, self.change(features)


class Reconstruction(nn.Module):
    """J = x + K · (x − A) − B, with K and B added up over scales from tokens to pixels."""

    # K = 1 / t − 1 and B = 0 invert the scattering model. An untrained network changes nothing.
    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.coarse = ReconstructionHead(config.width)
        widths = (config.width, *config.widths)
        self.scales = nn.ModuleList(
            UpscaleStep(before, width) for before, width in pairwise(widths)
        )
        self.gain = config.width**0.5 if config.normalised else 1.0

    def forward(self, tokens: Tensor, x: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
        """Return what is added to `x` (N, 3, H, W): K · (x − A) − B.

        `tokens` (N, h, w, C), `transmission` (N, 1, H, W), `airlight` (N, 3, H, W).
        """
        # Unit vectors have channels of about 1 / √C.
        features = tokens.permute(0, 3, 1, 2) * self.gain
        known = self.coarse(features).to(x.dtype)
        guide = torch.cat([x, transmission, airlight], 1)
        side = self.stride
        for scale in self.scales:
            side //= 2
            pixels, haze, air = torch.split(avg_pool2d(guide, side), [BANDS, 1, BANDS], 1)
            known = interpolate(known, scale_factor=2, mode="bilinear", align_corners=False)
            seen = torch.cat([pixels, pixels + change(known, pixels, air), haze], 1)
            features, correction = scale(features, seen)
            known = known + correction.to(x.dtype)
        return change(known, x, airlight)


def change(known: Tensor, x: Tensor, airlight: Tensor) -> Tensor:
    """Return K · (x − A) − B of `known` (N, 4, h, w)."""
    return known[:, :1] * (x - airlight) - known[:, 1:]
