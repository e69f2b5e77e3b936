"""Sizes of a HINT network from the tensors of its weights, published ones included."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models.hint._config import STAGES

EMBED, TEMPERATURE = "patch_embed.proj.weight", "latent.0.attn.temperature"
MODULATOR = "latent.0.attn.inter_modulator1.conv_width.weight"
ENCODER_ATTENTION = "encoder_level1.0.attn.temperature"
"""A tensor of Restormer, whose encoder has attention; HINT's has none."""


PUBLISHED = 48
"""Channels at full scale of all published checkpoints."""


def sizes_of_published(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make` for weights of the published width; raises `BadModel`."""
    sizes = sizes_of(state)
    if sizes["width"] != PUBLISHED:
        raise _other(f"{EMBED} has {sizes['width']} channels instead of {PUBLISHED}")
    return sizes


def sizes_of_small(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make` for narrower weights; raises `BadModel`."""
    sizes = sizes_of(state)
    if sizes["width"] >= PUBLISHED:
        raise _other(f"{EMBED} has {sizes['width']} channels, {PUBLISHED - 1} at most")
    return sizes


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make` for the network of `state`; raises `BadModel`."""
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
    numbers = [int(m[1]) for name in state if (m := re.match(rf"{stage}\.(\d+)\.", name))]
    if not numbers:
        raise _other(f"they lack {stage}.0")
    return max(numbers) + 1


def _other(why: str) -> BadModel:
    return BadModel(
        f"These weights are not those of this HINT: {why}.", "Choose the model they were made for."
    )
