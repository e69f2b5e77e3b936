"""Preset of a state dict, its missing parts, and the tensor names of the public release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from napari_restore.models._weights import other_network
from napari_restore.models.atmosphere.network import sizes_of_context
from napari_restore.models.inf_dehaze.config import (
    BANDS,
    FAST,
    LITE,
    PAPER,
    RELEASED,
    SEEN,
    SMALL,
    InfDehazeConfig,
)
from napari_restore.models.inf_dehaze.ibssa import directions_of

NAMES = (
    # release → ours, on the whole name; the first row that matches counts
    (r"encoder\.patch_embed\.proj\.(\w+)", r"encoder.embed.\1"),
    (r"(.+\.blocks\.\d+)\.attn\.relative_position_bias_table", r"\1.attention.bias_table"),
    (r"(.+\.blocks\.\d+)\.attn\.qkv\.(\w+)", r"\1.attention.qkv.\2"),
    (r"(.+\.blocks\.\d+)\.attn\.proj\.(\w+)", r"\1.attention.projection.\2"),
    (r"(encoder\.stages\.\d+)\.patch_merging\.(.+)", r"\1.merge.\2"),
    (r"(decoder\.stages\.\d+)\.proj\.weight", r"\1.project.weight"),
    (r"(decoder\.stages\.\d+)\.patch_expand\.expand\.(\w+)", r"\1.expand.\2"),
    (r"decoder\.unembed\.expand\.(\w+)", r"decoder.unembed.\1"),
    (r"bottleneck\.(blocks\.\d+)\.ln([12])\.weight", r"bottleneck.\1.norm\2.weight"),
    (r"bottleneck\.(blocks\.\d+)\.attn_core\.attn\.(.+)", r"bottleneck.\1.attention.\2"),
    (r"bottleneck\.(blocks\.\d+)\.attn_core\.(.+)", r"bottleneck.\1.attention.\2"),
    (r"bottleneck\.(blocks\.\d+)\.mlp\.(\w+)_proj\.weight", r"bottleneck.\1.mlp.\2.weight"),
    (r"bottleneck\.(blocks\.\d+)\.moe\.gate\.gate\.(\w+)", r"bottleneck.\1.experts.gate.\2"),
    (r"bottleneck\.(blocks\.\d+)\.moe\.shared_experts\.(.+)", r"bottleneck.\1.experts.shared.\2"),
    (
        r"bottleneck\.(blocks\.\d+)\.moe\.experts\.(\d+)\.conv2\.conv\.weight",
        r"bottleneck.\1.experts.experts.\2.conv2.weight",
    ),
    (r"bottleneck\.(blocks\.\d+)\.moe\.experts\.(.+)", r"bottleneck.\1.experts.experts.\2"),
)
"""Our names for those of the public release. Names without a row (norm1, norm2, mlp.fc1 and
mlp.fc2 of encoder and decoder blocks) are the same in both. Shapes and the order of rows and
columns are the same throughout."""

NOT_NEEDED = re.compile(r".*\.(attn_mask|attn\.relative_position_index)")
"""Tables that the release saves and that follow from the sizes."""

_MARK = "encoder.patch_embed.proj.weight"


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of the public release under our names; any other as it is."""
    if _MARK not in state:
        return dict(state)
    needed = {name: tensor for name, tensor in state.items() if not NOT_NEEDED.fullmatch(name)}
    # The release samples the directions of its hashes again in every process and does not save
    # them; here they are the ones every network starts with.
    directions = {
        f"bottleneck.blocks.{index}.attention.directions": directions_of(RELEASED, seed=index)
        for index, attention in enumerate(RELEASED.layers)
        if attention == "ibssa"
    }
    return directions | {_our_name(name): tensor for name, tensor in needed.items()}


def _our_name(name: str) -> str:
    for theirs, ours in NAMES:
        if match := re.fullmatch(theirs, name):
            return match.expand(ours)
    return name


def sizes_of(state: Mapping[str, Tensor], *, config: InfDehazeConfig) -> dict[str, int]:
    """Return the arguments of the network of `state`, which has our names.

    Empty for the preset `config` itself, ``released`` for `LITE` in the public release's shape;
    ``context`` and ``looks`` of the atmosphere inside, if there is one. Raises `BadModel` when the
    weights are neither's.
    """
    if config is LITE and "bottleneck.blocks.1.attention.qkv.weight" in state:
        return sizes_of(state, config=RELEASED) | {"released": True}
    last = config.widths[-1]
    context = sizes_of_context(state)
    planes = SEEN if context else BANDS
    signs = {
        "encoder.embed.weight": (config.widths[0], planes, config.patch, config.patch),
        "decoder.stages.0.project.weight": (last, 2 * last),
        f"bottleneck.blocks.{len(config.layers) - 1}.norm1.weight": (last,),
        "encoder.stages.0.blocks.0."
        + ("norm1.weight" if config.block == "swin" else "norm.weight"): (config.widths[0],),
    }
    if any(name not in state or state[name].shape != shape for name, shape in signs.items()):
        raise other_network("this Inf-Dehaze")
    return context


sizes_of_paper = partial(sizes_of, config=PAPER)
sizes_of_lite = partial(sizes_of, config=LITE)
sizes_of_fast = partial(sizes_of, config=FAST)
sizes_of_small = partial(sizes_of, config=SMALL)
