"""Sizes of an IPL network."""

from __future__ import annotations

from dataclasses import dataclass

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
