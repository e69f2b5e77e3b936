"""What moved between the frames of a bracket: where a frame contradicts the reference.

How a value of the reference looks in another exposure follows from the whole image: the median of
that frame's values where the reference has it, and their spread, for each colour. A pixel far outside
of both is one where something moved; the reference takes its place, by that median. Exposures need
not be known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_restore.models._exposure_curves import FEWEST, continued, looked_up, quantile
from napari_restore.models._layers import reflected

OWN_BINS, BINS = 64, 32
"""Steps of values of the reference, and of a frame, in a histogram of pairs."""
LEAST_SPREAD = 0.012
"""In units of white: noise and rounding of any photo."""
FROM, FULLY = 3.0, 6.0
"""Spreads outside of which a pixel begins to be one that moved, and is entirely."""
SPECKS, GROWTH, FEATHER = 2, 7, 4
"""Radii in pixels: what is smaller is noise; around what is left; of each of two means after it."""
REACH = 1 + SPECKS + GROWTH + 2 * FEATHER
"""Pixels around one that its share follows from."""
BLACK, WHITE = 0.015, 0.985
"""Values beyond which a frame is clipped."""


def curves(pairs: Tensor) -> Tensor:
    """Return median and spread (N, 2, F, 3, OWN_BINS) of each frame for a value of the reference.

    The spread is half of what the middle 68 % cover. `pairs` are those of `pairs_of`.
    """
    low, middle, high = (quantile(pairs, share) for share in (0.16, 0.5, 0.84))
    spread = ((high - low) / 2).clamp(min=LEAST_SPREAD)
    known = pairs.sum(-1) >= FEWEST
    median, spread = (continued(values, known) for values in (middle, spread))
    return torch.stack([median.cummax(-1).values, spread], dim=1).float()


def without_ghosts(
    frames: Tensor, found: Tensor, reference: int, amount: float, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return frames (N, F, 3, h, w) in which the reference takes the place of what moved.

    It also takes that of what is not valid, so that edges of frames are not seen.

    Parameters
    ----------
    frames
        (N, F, 3, h, w), 0 to 1.
    found
        Curves (N or 1, 2, F, 3, OWN_BINS) of the whole image, of `curves`.
    reference
        Place of the reference among the frames.
    amount
        Share to which the reference takes it, 0 to 1.
    valid
        (N, F, h, w) bool; None: all pixels are.

    Returns
    -------
    tuple
        The frames, and the share (N, F, 1, h, w) to which each was replaced because it moved.

    Notes
    -----
    The reference may be displaced by a pixel: its neighbours count, too. Where it is clipped, the only
    frame that is not stays. Edges are feathered.
    """
    median, spread = found.to(frames).expand(len(frames), -1, -1, -1, -1).unbind(1)
    own = frames[:, reference : reference + 1]
    lowest, highest = -_largest(-own, 1), _largest(own, 1)
    below = looked_up(median, lowest) - frames
    above = frames - looked_up(median, highest)
    outside = (torch.maximum(below, above) / looked_up(spread, own)).amax(2)
    share = ((outside - FROM) / (FULLY - FROM)).clamp(0, 1)
    if valid is not None:
        share = torch.where(valid, share, 0.0)
    share = -_largest(-share, SPECKS)
    needed = _needed(frames, reference)
    share = _largest(torch.where(needed, 0.0, share), GROWTH)
    share = amount * _mean(_mean(torch.where(needed, 0.0, share), FEATHER), FEATHER)
    share[:, reference] = 0
    share = share[:, :, None]
    expected = looked_up(median, own)
    replaced = frames + share * (expected - frames)
    return replaced if valid is None else torch.where(valid[:, :, None], replaced, expected), share


def _needed(frames: Tensor, reference: int) -> Tensor:
    """Return where a frame is the only one that is not clipped (N, F, h, w), the reference being."""
    most, least = frames.amax(2), frames.amin(2)
    clipped = (most >= WHITE) | (most <= BLACK) | (least >= WHITE)
    alone = (~clipped).sum(1, keepdim=True) == 1
    return ~clipped & alone & clipped[:, reference : reference + 1]


def _largest(x: Tensor, radius: int) -> Tensor:
    """Return the largest of the square around each pixel of x (…, h, w)."""
    return _over(x, radius, torch.maximum)


def _mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean of the square around each pixel of x (…, h, w)."""
    return _over(x, radius, torch.add) / (2 * radius + 1) ** 2


def _over(x: Tensor, radius: int, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return a sum or largest value over squares; edges reflected.

    By slices, not pooling: a value is then the same to the bit wherever an image is cut.
    """
    for axis in (-2, -1):
        length = x.shape[axis]
        wide = x.index_select(axis, reflected(length, length + 2 * radius, x.device, before=radius))
        x = wide.narrow(axis, 0, length)
        for start in range(1, 2 * radius + 1):
            x = of_two(x, wide.narrow(axis, start, length))
    return x
