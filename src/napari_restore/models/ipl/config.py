"""Sizes of an IPL network, from its settings or its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from napari_restore.models._weights import layers_in, other_network

FRAMES = 3
"""Frames of a bracket: dark, medium, bright."""
BANDS = 3
BLOCK = 64
"""Cells along a side of the blocks that rows and columns are cut into."""
STRIDE = 4
"""Pixels along a side of a cell of the features."""
TONE = 0.7
"""Exponent of the display values of a mixture: makes room for lights and lifts shadows, so that these
need not be learned, and their noise counts as it is seen."""
DARKEST = 1e-4
"""Least mixture, so that the slope of the power is finite."""
MIX = 2
"""Pixels along a side of a cell of gates, where the frames are mixed."""
CONTEXT = 8
"""Planes that tell the convolutions of `IplConfig.detail` what was judged in cells."""


@dataclass(frozen=True)
class IplConfig:
    """Sizes of an IPL network; the defaults are the published ones, as far as they can be known.

    The text gives 48 channels, 8 blocks and cuts of 64. The widths inside the slice attention are
    chosen so that all weights together are the published 974 700.
    """

    dim: int = 48
    """Channels per pixel along a side of a cell: features have `dim` · 4 channels."""
    blocks: int = 8
    """Feature integration blocks."""
    hidden_channel: int = 4
    """Channels inside the slice attention along channels."""
    hidden_width: int = 16
    """Those along columns."""
    hidden_height: int = 16
    """Those along rows."""
    shared: int = 1
    """1: all blocks have the same slice attention; 0: each has its own."""
    mixes: int = 0
    """0: y = gate · X2, as published. 1: y = Σ gate · X + offset over all frames, with gates and
    offset of cells of `MIX` pixels, interpolated: detail comes from the frames themselves, also where
    X2 is clipped. Two layers make them: which frame is exposed best is no linear function of the
    features. What is mixed is then raised to the power `TONE`."""
    curves: int = 0
    """1: the dark and the bright frame are also seen as the medium one would show them, by curves of
    the image (`models._exposure_curves`); then a gate that averages frames removes noise."""
    detail: int = 0
    """Channels of three convolutions of pixels, 0: none. They correct a mixture from itself, the
    frames and `CONTEXT` planes of the cells: gates change too slowly over the image to remove noise
    or to follow a shift of less than a pixel."""

    @property
    def channels(self) -> int:
        """Channels of the features, and cells along a side of the cube."""
        return self.dim * STRIDE

    @property
    def planes(self) -> int:
        """Planes that the network sees: of the frames, and of those brought to the medium one."""
        return BANDS * (FRAMES + (FRAMES - 1) * self.curves)

    @property
    def outputs(self) -> int:
        """Planes that the up-sampler makes: of every pixel, or of every cell of `MIX` pixels."""
        if not self.mixes:
            return BANDS
        return self.planes + BANDS + (CONTEXT if self.detail else 0)


DOWN, UP, MIX_WEIGHT = "down.weight", "up.weight", "mix.2.weight"
DETAIL = "detail.0.weight"
REDUCE = "attention.0.{}.reduce.weight"
PUBLISHED = 192
"""Channels of the features of the published network."""


def sizes_of(state: Mapping[str, Tensor], *, small: bool) -> dict[str, int]:
    """Return the arguments of `make` for weights of the published width, or a `small` one.

    Raises `BadModel` for others.
    """
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
    width = up.shape[1]
    if width >= PUBLISHED if small else width != PUBLISHED:
        most = f", {PUBLISHED - 1} at most" if small else f" instead of {PUBLISHED}"
        raise _other(f"{UP} has {width} channels{most}")
    return {
        "dim": width // STRIDE,
        "blocks": layers_in(state, "cubes"),
        **{f"hidden_{axis}": state[REDUCE.format(axis)].shape[0] for axis in axes},
        "shared": int(layers_in(state, "attention") == 1),
        "mixes": int(mixes),
        "curves": curves,
        "detail": 0 if detail is None else detail.shape[0],
    }


sizes_of_published, sizes_of_small = partial(sizes_of, small=False), partial(sizes_of, small=True)
_other = partial(other_network, "this IPL")
