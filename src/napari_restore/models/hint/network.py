"""HINT: an encoder of feed-forward blocks, and a decoder whose blocks attend between channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_restore.models._card import ModelCard
from napari_restore.models._model import RestorationModel
from napari_restore.models._steps import RESTORED, Map, SweepInput
from napari_restore.models.hint.attention import (
    AttentionSums,
    HierarchicalAttention,
    LayerStatistics,
    Local,
)
from napari_restore.models.hint.blocks import ChannelNorm, FeedForwardBlock, feed_forward
from napari_restore.models.hint.config import LEVEL_OF, LEVELS, STAGES, HintConfig
from napari_restore.models.published.restormer import DoubledSides, HalvedSides

BANDS = 3


class AttentionBlock(nn.Module):
    """x + Attn(LN1(x)), then x + FFN(LN2(x)), as `count`, `finalize` and `attend`; see `attention`."""

    def __init__(self, channels: int, config: HintConfig) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = HierarchicalAttention(channels, config)
        self.norm2 = ChannelNorm(channels)
        self.ffn = feed_forward(channels)

    def local(self, x: Tensor) -> Local:
        """Return queries, keys and values (N, C, h, w) of the block's input; it needs a halo of 1."""
        return self.attn.local(self.norm1(x))

    def attend(
        self, x: Tensor, layer_statistics: LayerStatistics, local: Local | None = None
    ) -> Tensor:
        """Return the block's output; it needs a halo of 2. `local` is what `local` returns, if known."""
        x = x + self.attn.attend(*(local or self.local(x)), layer_statistics)
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class AttentionStep(NamedTuple):
    """A block with attention, and where it stands."""

    stage: str
    is_first: bool
    """Whether the stage's map is made before it; see `HintNetwork.enter`."""
    block: AttentionBlock


class Place(NamedTuple):
    """What the sweeps of a network are called among those of a model, what they restore, and leave."""

    part: str = ""
    """What the names of all that is the network's own begin with; empty where it is the model."""
    image: str = ""
    """Map that it restores; empty: the image itself."""
    restored: Map = Map(RESTORED, BANDS)

    def of(self, name: str) -> str:
        """Return what the model calls the network's `name`."""
        return f"{self.part}.{name}" if self.part else name

    def titled(self, title: str) -> str:
        """Return the title of a sweep, which says whose it is."""
        return f"{title} ({self.part})" if self.part else title

    def seen(self, given: SweepInput) -> Tensor:
        """Return the pixels that it restores."""
        pixels = given.maps[self.image] if self.image else given.view
        assert pixels is not None
        return pixels


class HintNetwork(RestorationModel):
    """HINT: y = x + f(x), where every attention layer judges a pixel by all of the image.

    Its parts are those that tiles can share: `encode` by scale, then for every step of
    `blocks` `enter` where a stage begins, `count`, `finalize` and `attend` of its block, and `finish`.
    Boxes of tiles are multiples of 8 pixels from the image's origin; zeros are padded at the
    image's own edges only, where the tile ends with the image. Images of a batch know nothing of
    each other. Source: Zhou et al., ICCV 2025.
    """

    ends = ("output.weight",)
    place = Place()

    def __init__(self, card: ModelCard, config: HintConfig) -> None:
        super().__init__(card)
        self.config = config
        widths = [config.width * 2**level for level in range(LEVELS)]
        embed = nn.Conv2d(BANDS, widths[0], 3, padding=1, bias=False)
        self.patch_embed = nn.Sequential(OrderedDict(proj=embed))
        for level in range(LEVELS - 1):
            depth = (config.blocks1, config.blocks2, config.blocks3)[level]
            blocks = [FeedForwardBlock(widths[level]) for _ in range(depth)]
            self.add_module(f"encoder_level{level + 1}", nn.Sequential(*blocks))
        self.down1_2, self.down2_3, self.down3_4 = (HalvedSides(width) for width in widths[:-1])
        for stage in STAGES:
            channels = config.channels(stage)
            made = [AttentionBlock(channels, config) for _ in range(config.depth(stage))]
            self.add_module(stage, nn.ModuleList(made))
        self.up4_3, self.up3_2, self.up2_1 = (DoubledSides(width) for width in widths[:0:-1])
        self.reduce_chan_level3 = nn.Conv2d(2 * widths[2], widths[2], 1, bias=False)
        self.reduce_chan_level2 = nn.Conv2d(2 * widths[1], widths[1], 1, bias=False)
        self.output = nn.Conv2d(2 * widths[0], BANDS, 3, padding=1, bias=False)
        self._carried: Tensor | None = None
        for layer in self.modules():
            if isinstance(layer, HierarchicalAttention):
                layer.rounding = self._value("cache_rounding", "trunc")
                layer.regroup = bool(self._value("regroup", True))

    def encode(self, level: int, previous: Tensor) -> Tensor:
        """Return the encoder's map of scale `level` from the image, or from the map before it."""
        entry = (self.patch_embed, self.down1_2, self.down2_3)[level]
        out: Tensor = self.get_submodule(f"encoder_level{level + 1}")(entry(previous))
        return out

    def enter(self, stage: str, previous: Tensor, skip: Tensor | None) -> Tensor:
        """Return the first map of a stage with attention.

        `previous` is the last map of the stage before it, or of the encoder; `skip` the encoder's
        map of the stage's scale, where it is joined: at `decoder_level…`.
        """
        if stage == "latent":
            deeper: Tensor = self.down3_4(previous)
            return deeper
        if skip is None:
            return previous
        double, reduce = {
            "decoder_level3": (self.up4_3, self.reduce_chan_level3),
            "decoder_level2": (self.up3_2, self.reduce_chan_level2),
            "decoder_level1": (self.up2_1, nn.Identity()),
        }[stage]
        joined: Tensor = reduce(torch.cat([double(previous), skip], dim=1))
        return joined

    def blocks(self) -> Iterator[AttentionStep]:
        """Yield the blocks with attention in their order."""
        for stage in STAGES:
            for number, block in enumerate(self.get_submodule(stage).children()):
                assert isinstance(block, AttentionBlock)
                yield AttentionStep(stage, number == 0, block)

    def finish(self, last: Tensor, x: Tensor) -> Tensor:
        """Return the restored image from the last map, and the image; it needs a halo of 1."""
        out: Tensor = x + self.output(last)
        return out

    def start_cache(self, images: int) -> Tensor | None:
        """Return the inter-layer cache (N or 1, C, C) before the first layer, or None."""
        start = self._value("cache_start", "zeros")
        if start == "carry" and self._carried is not None:
            return self._carried.expand(images, -1, -1)
        if start == "none" or (start == "carry" and self._carried is None):
            return None
        side = self.config.channels(STAGES[0])
        like = self.output.weight
        return like.new_zeros(
            images, side, side, dtype=torch.promote_types(like.dtype, torch.float32)
        )

    def keep_cache(self, cache: Tensor | None) -> None:
        """Keep the cache after a layer for the next image, if so asked: its mean. The last one stays."""
        if self._value("cache_start", "zeros") == "carry" and cache is not None:
            self._carried = cache.detach().mean(0, keepdim=True)

    def intra_scale(
        self, counts: AttentionSums, stage: str, share: Tensor | None = None
    ) -> Tensor | None:
        """Return the factor (N,) that brings the intra-layer cache to the scale of training.

        Where overviews of the images are counted, `share` (N,) is what these have of their pixels:
        without a scale of training the factor then brings it to that of the images.
        """
        side = self._value("intra_size", 0)
        if not side:
            return None if share is None else share.sqrt()
        pixels = counts.cells * (1 << 2 * LEVEL_OF[stage])
        return pixels.sqrt() / int(side)

    def _value(self, name: str, default: Any) -> Any:
        return self.card.values.get(name, default)
