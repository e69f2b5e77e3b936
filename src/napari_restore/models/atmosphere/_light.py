"""Limits that the brightest parts of a picture set to its airlight, and to what is removed there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from napari_restore.models.atmosphere import THICKEST
from napari_restore.models.atmosphere._cells import Cells, coarser, halved, widened
from napari_restore.models.atmosphere._inversion import CURVE, DARKEST, RATIOS, optical_depth
from napari_restore.models.atmosphere._network import Estimate

BLOCK = 4
"""Network cells along a side of a block: 16 pixels of the picture that the network sees."""
BRIGHTEST = 0.01
"""Share of the blocks that are the brightest light of a picture."""
ABOVE = 1.2
"""Largest ratio of the airlight to that light where it has no structure, as opaque fog and sky …"""
STRUCTURE = 7.0
"""… and growth of that ratio with its structure: bright objects under haze are no haze."""
SKY_SHARE = 0.05
"""Share of the blocks whose mean luminance a sky is compared with: more than a sun …"""
SKY_LIGHT = (0.92, 0.98)
"""… and the ratio to it from which a cell begins to be sky, and is."""
SKY_STRUCTURE = (0.02, 0.04)
"""Relative deviation around a cell up to which it is sky, and from which it is not."""
SKY_TOP = (0.3, 0.5)
"""Share of the upper edge that is sky, less that of the lower one, from which a picture begins to have
a sky, and has one. Haze over ground is in either."""
KEPT = 0.9
"""Share of its light that a cell of sky keeps at least. Partly sky, it keeps less."""


def capped(airlight: Tensor, cells: Cells) -> Tensor:
    """Return the airlight (1, 3), as bright as the brightest light of the cells allows.

    Under opaque fog, which is the brightest of its picture, an airlight far above it would mean that
    the fog is a thin veil before something dark.
    """
    share, colour = coarser(cells, BLOCK)
    seen = (share > 0.5).flatten()
    light = colour.mean(1).flatten()[seen]
    if len(light) == 0:
        return airlight
    luminance = cells.colour.mean(1, keepdim=True)
    square = avg_pool2d(luminance**2 + cells.spread**2, BLOCK).flatten()[seen]
    brightest = light.topk(_count(light, BRIGHTEST)).indices
    top = light[brightest].clamp(min=1e-6)
    structure = ((square[brightest] / top**2 - 1).clamp(min=1e-8).sqrt()).mean()
    most = (ABOVE + STRUCTURE * structure) * top.mean()
    return airlight * (most / airlight.mean().clamp(min=1e-6)).clamp(max=1)


def with_light_skies(estimate: Estimate, airlight: Tensor, cells: Cells) -> Tensor:
    """Return the offset (1, 1, h, w) of the estimate, lowered where a sky would become dark.

    A sky is as bright as the picture gets, has no structure and reaches the upper edge. How far
    it is, and so how much haze is before it, cannot be seen: its light is kept.
    """
    height, width = estimate.offset.shape[2:]
    sky = _sky(cells)[:, :, :height, :width]
    if not sky.any():
        return estimate.offset
    colour = halved(cells)[1][:, :, :height, :width]
    presence = estimate.presence.clamp(min=1e-6)[:, None, None, None]
    one = {"brightness": torch.ones_like(presence), "presence": presence}
    depth = optical_depth(colour, estimate.offset, estimate.slope, one)
    deepest = _depth_that_keeps(colour, estimate, airlight)
    lowered = depth - sky * (depth - deepest).clamp(min=0)
    shares = [(d / (THICKEST * presence)).clamp(1e-4, 1 - 1e-4) for d in (lowered, depth)]
    after, before = (torch.log(share / (1 - share)) for share in shares)
    # In this order: where they are equal, the offset stays as it is.
    return estimate.offset + (after - before)


def _depth_that_keeps(colour: Tensor, estimate: Estimate, airlight: Tensor) -> Tensor:
    """Return the optical depth (1, 1, h, w) whose removal leaves `KEPT` of a colour (1, 3, h, w)."""
    curve = CURVE ** (1 - estimate.display[:, None, None, None])
    colour = colour.clamp(min=DARKEST)
    veil = airlight[:, :, None, None] ** curve
    below = veil - colour**curve
    gain = (veil - (KEPT * colour) ** curve) / below.clamp(min=1e-6)
    ratios = torch.tensor(RATIOS, device=colour.device)[:, None, None]
    depth = torch.log(gain.clamp(min=1)) / ratios ** estimate.exponent[:, None, None, None]
    # What is brighter than the airlight becomes brighter still.
    return torch.where(below > 0, depth, THICKEST).amin(1, keepdim=True)


def _sky(cells: Cells) -> Tensor:
    """Return how much each cell of twice the side is sky, 0 to 1, (1, 1, h, w)."""
    share, colour, _ = halved(cells)
    seen = (share > 0.5).to(colour.dtype)
    blocks, colours = coarser(cells, BLOCK)
    light = colours.mean(1)[blocks[:, 0] > 0.5]
    if len(light) == 0:
        return torch.zeros_like(share)
    top = light.topk(_count(light, SKY_SHARE)).values.mean().clamp(min=1e-6)
    luminance = colour.mean(1, keepdim=True)
    bright = _between(luminance / top, *SKY_LIGHT) * seen
    fine = cells.colour.mean(1, keepdim=True)
    number = _around(seen).clamp(min=1e-6)
    mean = _around(luminance * seen) / number
    square = _around(avg_pool2d(fine**2 + cells.spread**2, 2) * seen) / number
    deviation = (square / mean.clamp(min=1e-6) ** 2 - 1).clamp(min=1e-8).sqrt()
    even = 1 - _between(deviation, *SKY_STRUCTURE)
    # Cells beside a skyline are sky, too.
    sky = torch.minimum(bright, widened(bright * even, 1))
    rows = seen.sum(3)[0, 0].nonzero().flatten()
    at_edges = [_mean_of_row(sky, seen, int(row)) for row in (rows[0], rows[-1])]
    # A border without data hides no sky.
    open_above = torch.cummin(torch.where(seen > 0, sky, 1), 2).values * seen
    return open_above * _between(at_edges[0] - at_edges[1], *SKY_TOP)


def _mean_of_row(plane: Tensor, seen: Tensor, row: int) -> Tensor:
    return (plane[:, :, row] * seen[:, :, row]).sum() / seen[:, :, row].sum()


def _around(plane: Tensor) -> Tensor:
    return avg_pool2d(plane, 3, stride=1, padding=1)


def _between(values: Tensor, low: float, high: float) -> Tensor:
    """Return 0 up to `low`, 1 from `high`."""
    return ((values - low) / (high - low)).clamp(0, 1)


def _count(values: Tensor, share: float) -> int:
    """Return how many of the values are that share of them, at least one."""
    return -(-len(values) // round(1 / share))
