"""Sizes of an anDehazeFormer, from its settings or its weights, and the multiplications they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from napari_restore.models._weights import other_network
from napari_restore.models.atmosphere.network import sizes_of_context

BANDS = 3
PLANES = 2 * BANDS + 1
"""Planes of the view that become tokens: the pixels, the pixels after the estimated haze is
removed, and the transmission. Behind them the airlight."""


@dataclass(frozen=True)
class AnDehazeConfig:
    """Everything that determines the shape of the network."""

    width: int = 96
    """Channels of a token."""
    heads: int = 4
    pairs: int = 4
    """Window blocks, each followed by a global one."""
    hidden: int = 192
    """Hidden width of the gated MLPs."""
    stride: int = 8
    """Pixels per token along a side."""
    window: int = 8
    """Tokens of a window along a side."""
    pool: int = 2
    """Tokens along a side that are averaged into a candidate of the cache."""
    widths: tuple[int, ...] = (32, 16, 8)
    """Channels of the reconstruction, its scales twice as fine each."""
    estimator_width: int = 16
    """Channels of the estimator's first convolutions; twice as many of its pooled features."""
    normalised: bool = True
    """False: the pre-norm twin, with LayerNorm, plain residuals and free weights."""

    @property
    def footprint(self) -> int:
        """Pixels along a side of a candidate of the cache."""
        return self.stride * self.pool


SMALL = AnDehazeConfig()


def operations(config: AnDehazeConfig, tokens: int, kept: int, merged: bool = True) -> float:
    """Return the multiplications for so many tokens and caches of `kept` ones, overview excluded."""
    width, side = config.width, config.stride
    # Windows count as full ones. Where tokens are `merged`, candidates are compared with the kept
    # ones of one of 8 bins, taken as an eighth of them.
    embed = PLANES * side * side * width + BANDS * width + (width + 1) * width
    mlp = 3 * width * config.hidden
    local = 4 * width * width + 2 * config.window**2 * width + mlp
    candidates = tokens / config.pool**2
    cached: float = 2 * width * width * tokens + 2 * kept * width * tokens + mlp * tokens
    # Keys and values are computed again where they are merged.
    cached += candidates * 2 * width * width * (2 if merged else 1)
    cached += candidates * kept / 8 * width if merged else 0.0
    total = tokens * (embed + config.pairs * local) + config.pairs * cached
    return total + tokens * reconstruction_operations(config)


def reconstruction_operations(config: AnDehazeConfig) -> int:
    """Return the multiplications of the reconstruction per token."""
    outputs, guides = 1 + BANDS, 2 * BANDS + 1
    total, before = config.width * outputs, config.width
    for scale, width in enumerate(config.widths):
        coarse, cells = 4**scale, 4 ** (scale + 1)
        total += coarse * before * 4 * width
        total += cells * (9 * (width + guides) * width + width * outputs)
        before = width
    assert 2 ** len(config.widths) == config.stride
    return total


def kept_tokens(candidates: int, share: float, most: int) -> int:
    """Return how many of so many candidates a cache keeps: ⌈share · N⌉, at most `most`."""
    # The nearest whole number first: 0.6 · 5 is 3.0000000000000004 in some orders of products.
    return min(math.ceil(round(share * candidates, 6)), most, candidates)


def sizes_of_small(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make_small` for these weights.

    ``normalised`` 0 for the pre-norm twin; ``context`` and ``looks`` of an atmosphere network
    inside. Raises `BadModel`.
    """
    patch = PLANES * SMALL.stride**2 + BANDS
    shapes = {
        "embedding.patch.weight": (SMALL.width, patch),
        f"globals.{SMALL.pairs - 1}.mlp.into.weight": (2 * SMALL.hidden, SMALL.width),
    }
    if any(name not in state or state[name].shape != shape for name, shape in shapes.items()):
        raise other_network("this anDehazeFormer")
    sizes = sizes_of_context(state)
    if "globals.0.step1.alpha.shift" not in state:
        sizes["normalised"] = 0
    return sizes
