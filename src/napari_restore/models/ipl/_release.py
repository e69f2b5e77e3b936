"""Sizes of an IPL network from the tensors of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models.ipl._config import BANDS, CONTEXT, FRAMES, MIX, STRIDE

DOWN, UP, MIX_WEIGHT = "down.weight", "up.weight", "mix.2.weight"
DETAIL = "detail.0.weight"
REDUCE = "attention.0.{}.reduce.weight"
PUBLISHED = 192
"""Channels of the features of the published network."""


def sizes_of_published(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make` for weights of the published width; raises `BadModel`."""
    sizes = sizes_of(state)
    if sizes["dim"] * STRIDE != PUBLISHED:
        raise _other(f"{UP} has {sizes['dim'] * STRIDE} channels instead of {PUBLISHED}")
    return sizes


def sizes_of_small(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make_small` for narrower weights; raises `BadModel`."""
    sizes = sizes_of(state)
    if sizes["dim"] * STRIDE >= PUBLISHED:
        raise _other(f"{UP} has {sizes['dim'] * STRIDE} channels, {PUBLISHED - 1} at most")
    return sizes


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make` for the network of `state`; raises `BadModel`."""
    axes = ("channel", "width", "height")
    last = MIX_WEIGHT if MIX_WEIGHT in state else UP
    for name in (DOWN, last, *(REDUCE.format(axis) for axis in axes)):
        if name not in state:
            raise _other(f"they lack {name}")
    down, up = state[DOWN], state[last]
    curves = int(down.ndim == 4 and down.shape[1] > FRAMES * BANDS)
    seen = BANDS * (FRAMES + curves * (FRAMES - 1))
    if down.ndim != 4 or down.shape[1] != seen:
        raise _other(f"{DOWN} is not that of {FRAMES} frames of {BANDS} bands")
    mixes, detail = last == MIX_WEIGHT, state.get(DETAIL)
    planes = seen + BANDS + (0 if detail is None else CONTEXT)
    outputs = planes * (STRIDE // MIX) ** 2 if mixes else BANDS * STRIDE**2
    if up.ndim != 4 or up.shape[0] != outputs or up.shape[1] % STRIDE:
        raise _other(f"{last} is not that of {BANDS} bands in cells of {STRIDE} pixels")
    return {
        "dim": up.shape[1] // STRIDE,
        "blocks": _count(state, "cubes"),
        **{f"hidden_{axis}": state[REDUCE.format(axis)].shape[0] for axis in axes},
        "shared": int(_count(state, "attention") == 1),
        "mixes": int(mixes),
        "curves": curves,
        "detail": 0 if detail is None else detail.shape[0],
    }


def _count(state: Mapping[str, Tensor], part: str) -> int:
    return 1 + max(
        (int(m[1]) for name in state if (m := re.match(rf"{part}\.(\d+)\.", name))), default=-1
    )


def _other(why: str) -> BadModel:
    return BadModel(
        f"These weights are not those of this IPL: {why}.", "Choose the model they were made for."
    )
