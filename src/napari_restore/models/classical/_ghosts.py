"""What moved between the frames of a bracket: where a frame contradicts the reference.

How a value of the reference looks in another exposure follows from the whole image: the median of
that frame's values where the reference has it, and their spread, for each colour. A pixel far outside
of both is one where something moved; the reference takes its place, by that median. Exposures need
not be known. Source of the curve: Grossberg, Nayar, "Determining the camera response from images: what
is knowable?", IEEE PAMI 25(11), 2003.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from napari_restore.models._model import Statistics
from napari_restore.models._padding import reflected
from napari_restore.models._sweeps import Sums

BANDS = 3
OWN_BINS, BINS = 64, 32
"""Steps of values of the reference, and of a frame, in a histogram of pairs."""
STEP = 4
"""Every so many pixels along a side are counted."""
FEWEST = 8
"""Pairs from which on a value of the reference has values of its own."""
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


def counted(frames: Tensor, valid: Tensor | None) -> Tensor:
    """Return every fourth pixel (N, F · 3, h / 4, w / 4) of frames (N, F, 3, h, w).

    −1 where `valid` (N, F, h, w) says that it is not valid.
    """
    values = frames[..., ::STEP, ::STEP].clamp(0, 1)
    if valid is not None:
        values = torch.where(valid[:, :, None, ::STEP, ::STEP], values, -1.0)
    return values.flatten(1, 2)


def histograms(features: Mapping[str, Tensor], reference: int) -> Sums:
    """Return how often values of reference and frame meet, (N, F, 3, OWN_BINS, BINS) float64."""
    colours = features["colours"]
    values = colours.view(len(colours), -1, BANDS, *colours.shape[2:])
    own = values[:, reference : reference + 1]
    known = ((values >= 0) & (own >= 0)).flatten(3).double()
    places = _step(own, OWN_BINS) * BINS + _step(values, BINS)
    pairs = known.new_zeros(*known.shape[:3], OWN_BINS * BINS)
    pairs.scatter_add_(3, places.flatten(3), known)
    return {"pairs": pairs.view(*pairs.shape[:3], OWN_BINS, BINS)}


def curves(sums: Sums, _: Statistics) -> Statistics:
    """Return median and spread (N, 2, F, 3, OWN_BINS) of each frame for a value of the reference.

    The spread is half of what the middle 68 % cover.
    """
    pairs = sums["pairs"]
    low, middle, high = (_quantile(pairs, share) for share in (0.16, 0.5, 0.84))
    spread = ((high - low) / 2).clamp(min=LEAST_SPREAD)
    known = pairs.sum(-1) >= FEWEST
    median, spread = (_spread_out(values, known) for values in (middle, spread))
    return {"curves": torch.stack([median.cummax(-1).values, spread], dim=1).float()}


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
    below = _looked_up(median, lowest) - frames
    above = frames - _looked_up(median, highest)
    outside = (torch.maximum(below, above) / _looked_up(spread, own)).amax(2)
    share = ((outside - FROM) / (FULLY - FROM)).clamp(0, 1)
    if valid is not None:
        share = torch.where(valid, share, 0.0)
    share = -_largest(-share, SPECKS)
    needed = _needed(frames, reference)
    share = _largest(torch.where(needed, 0.0, share), GROWTH)
    share = amount * _mean(_mean(torch.where(needed, 0.0, share), FEATHER), FEATHER)
    share[:, reference] = 0
    share = share[:, :, None]
    expected = _looked_up(median, own)
    replaced = frames + share * (expected - frames)
    return replaced if valid is None else torch.where(valid[:, :, None], replaced, expected), share


def _needed(frames: Tensor, reference: int) -> Tensor:
    """Return where a frame is the only one that is not clipped (N, F, h, w), the reference being."""
    most, least = frames.amax(2), frames.amin(2)
    clipped = (most >= WHITE) | (most <= BLACK) | (least >= WHITE)
    alone = (~clipped).sum(1, keepdim=True) == 1
    return ~clipped & alone & clipped[:, reference : reference + 1]


def _quantile(pairs: Tensor, share: float) -> Tensor:
    """Return a quantile (…, OWN_BINS) of each row of histograms (…, OWN_BINS, BINS), 0 to 1."""
    upto = pairs.cumsum(-1)
    wanted = share * upto[..., -1:]
    place = (upto < wanted).sum(-1, keepdim=True).clamp(max=BINS - 1)
    own = pairs.gather(-1, place)
    before = upto.gather(-1, place) - own
    within = ((wanted - before) / own.clamp(min=1e-9)).clamp(0, 1)
    return ((place + within) / BINS)[..., 0]


def _spread_out(values: Tensor, known: Tensor) -> Tensor:
    """Return values (…, OWN_BINS) with those that are not known taken from the next known ones."""
    values, known = values.clone(), known.clone()
    order = (range(1, OWN_BINS), range(OWN_BINS - 2, -1, -1))
    for steps, earlier in zip(order, (-1, 1), strict=True):
        for step in steps:
            taken = ~known[..., step] & known[..., step + earlier]
            values[..., step] = torch.where(taken, values[..., step + earlier], values[..., step])
            known[..., step] |= taken
    return values


def _looked_up(curve: Tensor, values: Tensor) -> Tensor:
    """Return curves (N, F, 3, OWN_BINS) at values (N, 1, 3, h, w), linear between the bins' middles."""
    place = (values * OWN_BINS - 0.5).clamp(0, OWN_BINS - 1)
    low = place.long().clamp(max=OWN_BINS - 2)
    share = place - low
    shape = (*curve.shape[:3], *values.shape[3:])
    places = low.flatten(3).expand(-1, curve.shape[1], -1, -1)
    before, after = curve.gather(3, places), curve.gather(3, places + 1)
    return before.view(shape) * (1 - share) + after.view(shape) * share


def _step(values: Tensor, steps: int) -> Tensor:
    return (values * steps).long().clamp(0, steps - 1)


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
