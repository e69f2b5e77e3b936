"""Sizes and switches of a HINT network."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = 4
"""Scales of the network: 1, 1/2, 1/4 and 1/8."""
STRIDE = 1 << (LEVELS - 1)
"""Pixels per cell of the coarsest scale."""
HEADS = 4
EXPANSION = 2.66
"""Channels inside a feed-forward network over those outside, rounded down."""
STAGES = ("latent", "decoder_level3", "decoder_level2", "decoder_level1", "refinement")
"""Stages with attention, in their order."""
LEVEL_OF = {
    "latent": 3,
    "decoder_level3": 2,
    "decoder_level2": 1,
    "decoder_level1": 0,
    "refinement": 0,
}
"""Scale of each of them: a cell has 2 to this power pixels along a side."""


@dataclass(frozen=True)
class HintConfig:
    """Sizes of a HINT network; the defaults are the published ones."""

    width: int = 48
    """Channels at full scale; twice as many at each coarser one."""
    blocks1: int = 4
    """Blocks at full scale, in the encoder as in the decoder."""
    blocks2: int = 6
    blocks3: int = 6
    latent: int = 6
    """Blocks at the coarsest scale."""
    refinement: int = 4
    """Blocks after the decoder, at full scale."""
    equal_heads: int = 0
    """1: four heads of C/4 channels instead of 1 : 2 : 2 : 3 eighths; for ablation."""
    intra: int = 1
    """0: without the intra-layer cache and its modulators; for ablation."""
    inter: int = 1
    """0: without the inter-layer cache and its modulators; for ablation."""

    def channels(self, stage: str) -> int:
        """Return the channels of a stage with attention.

        At full scale there are twice as many as in the encoder: its map is joined unreduced.
        """
        return self.width * max(2, 1 << LEVEL_OF[stage])

    def depth(self, stage: str) -> int:
        """Return the number of blocks of a stage with attention."""
        if stage == "refinement":
            return self.refinement
        return (self.blocks1, self.blocks2, self.blocks3, self.latent)[LEVEL_OF[stage]]


def head_sizes(channels: int, equal: bool) -> tuple[int, ...]:
    """Return the channels of each head; raises `ValueError` where they do not divide."""
    shares = (2, 2, 2, 2) if equal else (1, 2, 2, 3)
    if channels % 8:
        raise ValueError(f"{channels} channels do not divide into heads of eighths")
    return tuple(channels // 8 * share for share in shares)
