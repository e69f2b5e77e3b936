"""Sizes and switches of a HINT network, and those of published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from napari_restore.models._weights import layers_in, other_network

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
        """Return the channels of a stage with attention."""
        # At full scale there are twice as many as in the encoder: its map is joined unreduced.
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


EMBED, TEMPERATURE = "patch_embed.proj.weight", "latent.0.attn.temperature"
MODULATOR = "latent.0.attn.inter_modulator1.conv_width.weight"
ENCODER_ATTENTION = "encoder_level1.0.attn.temperature"
"""A tensor of Restormer, whose encoder has attention; HINT's has none."""
PUBLISHED = 48
"""Channels at full scale of all published checkpoints."""


def sizes_of(state: Mapping[str, Tensor], *, small: bool) -> dict[str, int]:
    """Return the arguments of `make` for weights of the published width, or a `small` one.

    Raises `BadModel` for others.
    """
    for name in (EMBED, TEMPERATURE):
        if name not in state:
            raise _other(f"they lack {name}")
    if ENCODER_ATTENTION in state:
        raise _other(f"{ENCODER_ATTENTION} belongs to Restormer")
    embed = state[EMBED]
    if embed.ndim != 4 or embed.shape[1] != 3:
        raise _other(f"{EMBED} is not that of three bands")
    width, inter = embed.shape[0], MODULATOR in state
    if width % 4:
        raise _other(f"{EMBED} has {width} channels, which is no multiple of 4")
    if width >= PUBLISHED if small else width != PUBLISHED:
        most = f", {PUBLISHED - 1} at most" if small else f" instead of {PUBLISHED}"
        raise _other(f"{EMBED} has {width} channels{most}")
    return {
        "width": width,
        **{f"blocks{level}": _depth(state, f"encoder_level{level}") for level in (1, 2, 3)},
        "latent": _depth(state, "latent"),
        "refinement": _depth(state, STAGES[-1]),
        # Without modulators the sizes of the heads leave no trace.
        "equal_heads": int(inter and state[MODULATOR].shape[1] * 4 == 8 * width),
        "intra": int("latent.0.attn.intra_modulator.down.weight" in state),
        "inter": int(inter),
    }


def _depth(state: Mapping[str, Tensor], stage: str) -> int:
    depth = layers_in(state, stage)
    if not depth:
        raise _other(f"they lack {stage}.0")
    return depth


sizes_of_published, sizes_of_small = partial(sizes_of, small=False), partial(sizes_of, small=True)
_other = partial(other_network, "this HINT")
