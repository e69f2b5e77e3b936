"""How a value of one frame of a bracket looks in another exposure: curves of the whole image.

Pairs of values at the same place are counted in histograms, whose quantiles are the curves; exposures
need not be known. Source: Grossberg, Nayar, "Determining the camera response from images: what is
knowable?", IEEE PAMI 25(11), 2003.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from napari_restore.models._steps import Counts, Map, Sweep, SweepInput

BANDS = 3
STEP = 4
"""Every so many pixels along a side are counted."""
FEWEST = 8
"""Pairs from which on a value has values of its own in another frame."""


def by_frame(planes: Tensor, of_each: int = BANDS) -> Tensor:
    """Return (N, F, C, h, w) of planes (N, F · C, h, w) with `of_each` of a frame."""
    return planes.reshape(len(planes), -1, of_each, *planes.shape[2:])


def sampled_values(frames: Tensor, valid: Tensor | None) -> Tensor:
    """Return every fourth pixel (N, F · 3, h / 4, w / 4) of frames (N, F, 3, h, w), −1 where not `valid`."""
    values = frames[..., ::STEP, ::STEP].clamp(0, 1)
    if valid is not None:
        values = torch.where(valid[:, :, None, ::STEP, ::STEP], values, -1.0)
    return values.flatten(1, 2)


def pairs_of(values: Tensor, reference: int, own_bins: int, bins: int) -> Tensor:
    """Return how often values of reference and frame meet, (N, F, 3, own_bins, bins) float64.

    `values` are those of `sampled_values`; `reference` is the place of the reference among the frames.
    """
    values = by_frame(values)
    own = values[:, reference : reference + 1]
    known = ((values >= 0) & (own >= 0)).flatten(3).double()
    places = _step(own, own_bins) * bins + _step(values, bins)
    pairs = known.new_zeros(*known.shape[:3], own_bins * bins)
    pairs.scatter_add_(3, places.flatten(3), known)
    return pairs.view(*pairs.shape[:3], own_bins, bins)


def comparing(
    frames: int, reference: int, bins: tuple[int, int], curves: Callable[[Tensor], Tensor]
) -> Sweep:
    """Return the sweep that counts which values of the frames of a bracket meet.

    Its statistic is ``curves``, which `curves` makes of the pairs; `bins` are those of `pairs_of`.
    """

    def run(given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        return {"colours": sampled_values(by_frame(given.view), given.valid)}

    counts = Counts(
        features=(Map("colours", frames * BANDS, STEP),),
        shapes={"pairs": (frames, BANDS, *bins)},
        count=lambda found, _: {"pairs": pairs_of(found["colours"], reference, *bins)},
        statistics=("curves",),
        finalize=lambda sums, _: {"curves": curves(sums["pairs"])},
    )
    return Sweep("compare", "Comparing the frames", run, counts=counts)


def quantile(pairs: Tensor, share: float) -> Tensor:
    """Return a quantile (…, rows) of each row of histograms (…, rows, bins), 0 to 1."""
    bins = pairs.shape[-1]
    upto = pairs.cumsum(-1)
    wanted = share * upto[..., -1:]
    place = (upto < wanted).sum(-1, keepdim=True).clamp(max=bins - 1)
    own = pairs.gather(-1, place)
    before = upto.gather(-1, place) - own
    within = ((wanted - before) / own.clamp(min=1e-9)).clamp(0, 1)
    return ((place + within) / bins)[..., 0]


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Return values (…, rows) with those that are not known taken from the next known ones."""
    rows = values.shape[-1]
    values, known = values.clone(), known.clone()
    order = (range(1, rows), range(rows - 2, -1, -1))
    for steps, earlier in zip(order, (-1, 1), strict=True):
        for step in steps:
            taken = ~known[..., step] & known[..., step + earlier]
            values[..., step] = torch.where(taken, values[..., step + earlier], values[..., step])
            known[..., step] = known[..., step] | taken
    return values


def looked_up(curves: Tensor, values: Tensor) -> Tensor:
    """Return curves at values, (N, F, 3, h, w), linear between the middles of their rows.

    `curves` (N, F, 3, rows) are of values 0 to 1, `values` (N, F, 3, h, w) or, for all curves the
    same, (N, 1, 3, h, w).
    """
    rows = curves.shape[-1]
    place = (values * rows - 0.5).clamp(0, rows - 1)
    low = place.long().clamp(max=rows - 2)
    share = place - low
    shape = (*curves.shape[:3], *values.shape[3:])
    places = low.flatten(3).expand(-1, curves.shape[1], -1, -1)
    before, after = curves.gather(3, places), curves.gather(3, places + 1)
    return before.view(shape) * (1 - share) + after.view(shape) * share


def _step(values: Tensor, steps: int) -> Tensor:
    return (values * steps).long().clamp(0, steps - 1)
