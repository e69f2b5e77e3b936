"""Sizes of an Inf-Dehaze network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Block = Literal["swin", "convnext"]
Attention = Literal["ibssa", "full"]
Head = Literal["change", "haze"]
BANDS = 3
SEEN = 2 * BANDS + 1
"""Planes of the encoder's input with context: the tile, the tile without the haze that the
context finds, and its transmission. Behind them the airlight."""


@dataclass(frozen=True)
class InfDehazeConfig:
    """Everything that determines the shape of the network, in one place.

    Encoder and decoder mirror each other: `depths`, `heads` and `widths` run from fine to coarse.
    Between two encoder stages the map is halved. Source of the defaults: the supplement of
    Inf-Dehaze.
    """

    patch: int
    """Pixels per cell of the finest map along a side."""
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    layers: tuple[Attention, ...]
    """Attention of each bottleneck layer: "ibssa", or "full" over all tokens."""
    tile: int = 256
    block: Block = "swin"
    window: int = 8
    mlp_ratio: int = 4
    """Hidden width of every MLP over its width."""
    sfca: bool = True
    """Spatial-frequency attention after the blocks of each encoder stage whose map is at
    least 16 × 16."""
    bottleneck_heads: int = 8
    qk_width: int = 128
    """Channels of queries and keys over all heads of an IBSSA."""
    exact_below: int = 8192
    """With fewer tokens than this IBSSA is exact attention."""
    lsh_bits: int = 7
    block_size: int = 128
    """Tokens per sorted block."""
    neighbours: bool = True
    """Whether a block of queries also attends to the key block before its own."""
    samples: int = 0
    """Keys sampled once from all tokens that every query attends to as well."""
    experts: tuple[int, ...] = (3, 3, 3, 5, 5, 5)
    """Kernel side of each routed expert."""
    top_k: int = 2
    expert_ratio: int = 4
    """Hidden width of an expert over the token width."""
    shared_kernel: int = 3
    shared_dense: bool = False
    """Whether the shared expert's convolution mixes channels."""
    shared_weight: float = 0.1
    double_gelu: bool = False
    """Whether routed experts apply GELU twice after their convolution, as the release does."""
    centred_gate: bool = True
    """Whether the experts are chosen by a cell's difference from the mean of the grid; not so in
    the release. Our interpretation."""
    local_weight: float = 0.1
    """Weight of the experts' branch beside the MLP."""
    head: Head = "change"
    """Output of the network: a change that is added to the tile, or haze that is removed by the
    scattering model. The second is ours: `CellStatistics` are added to the tokens, and decoding
    takes one token around a tile; see `HazeHead`."""
    batch: int | None = None
    """Tiles at once, where the supplement gives a number for this variant."""

    @property
    def stride(self) -> int:
        """Pixels per token along a side."""
        return self.patch << (len(self.widths) - 1)


def operations(config: InfDehazeConfig, layer: int, tokens: int) -> float:
    """Return about how many multiplications one bottleneck layer needs for so many tokens."""
    width = config.widths[-1]
    hidden = config.expert_ratio * width
    mlp = 3 * width * config.mlp_ratio * width
    experts = sum(2 * width * hidden + k * k * hidden for k in config.experts)
    mixing = hidden * hidden if config.shared_dense else hidden
    experts += 2 * width * hidden + config.shared_kernel**2 * mixing
    if config.layers[layer] == "full":
        projections, keys, depth = 4 * width * width, tokens, 2 * width
    else:
        projections, depth = (2 * config.qk_width + width) * width, config.qk_width + width
        blocks = config.block_size * (2 if config.neighbours else 1) + config.samples
        keys = tokens if tokens < config.exact_below else blocks
    return float(tokens) * (mlp + experts + projections + keys * depth)


PAPER = InfDehazeConfig(
    patch=4,
    widths=(256, 256, 512, 1024),
    depths=(2, 3, 4, 2),
    heads=(4, 4, 8, 16),
    layers=("ibssa",) * 4,
)
LITE = InfDehazeConfig(
    patch=2,
    widths=(96, 96, 192, 384),
    depths=(2, 3, 4, 2),
    heads=(2, 4, 8, 8),
    layers=("ibssa",) * 4,
    expert_ratio=1,
)
FAST = replace(LITE, depths=(2, 2, 2, 2), block="convnext", batch=64)
SMALL = InfDehazeConfig(
    patch=4,
    widths=(32, 64, 96, 128),
    depths=(2, 2, 2, 2),
    heads=(2, 4, 4, 4),
    layers=("ibssa",) * 2,
    qk_width=64,
    expert_ratio=1,
    head="haze",
)
RELEASED = replace(
    LITE,
    layers=("ibssa", "full", "ibssa", "full"),
    sfca=False,
    neighbours=False,
    samples=128,
    experts=(3,) * 4 + (5,) * 4 + (7,) * 4,
    top_k=3,
    shared_kernel=5,
    shared_dense=True,
    shared_weight=1.0,
    double_gelu=True,
    centred_gate=False,
)
"""The public release: `lite` takes this shape when it loads such a checkpoint."""
