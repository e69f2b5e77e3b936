"""What moved between the frames of a bracket: where they contradict each other, and what follows.

How a value of one frame looks in another exposure follows from the whole image: the median of that
frame's values where the first has it, and their spread, for each colour. A pixel far outside of both
is one where something moved. Exposures need not be known.

What moves is taken whole from one frame. Cells of `CELL` pixels in which something moved are listed,
tile by tile, and joined to regions on that small grid of the whole image. In a region one frame, as
it looks in the other exposures, takes the place of them all; its edge lies where the frames agree.

Sources: Grosch, "Fast and robust high dynamic range image generation with camera and object
movement", VMV 2006, for contradictions; Pece, Kautz, "Bitmap movement detection", CVMP 2010, for
regions that are taken whole from the frame that is exposed best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models._exposure_curves import (
    BANDS,
    FEWEST,
    STEP,
    by_frame,
    continued,
    looked_up,
    pairs_of,
    quantile,
    sampled_values,
)
from napari_restore.models._layers import reflected
from napari_restore.models._model import Statistics
from napari_restore.models._steps import Counts, Map, Sums, Sweep, SweepInput, cell_places
from napari_restore.models._sweeps import NUMBER, joined

OWN_BINS, BINS = 64, 32
"""Steps of values of the reference, and of a frame, in a histogram of pairs."""
LEAST_SPREAD = 0.012
"""In units of white: noise and rounding of any photo."""
FROM, FULLY = 3.0, 6.0
"""Spreads outside of which a pixel begins to be one that moved, and is entirely."""
SPECKS, TEXTURE = 2, 3
"""Radii in pixels: of what is noise, and of means without it."""
BLACK, WHITE = 0.015, 0.985
"""Values beyond which a frame is clipped."""
CELL = 8
"""Pixels along a side of the cells in which something moved."""
HALO = CELL
"""Pixels around a cell that it depends on: at least 1 for a displacement, `SPECKS` and `TEXTURE`."""
JOINED = 120
"""Gaps up to twice this share of the longer side are within one thing that moved."""
GROWTH = 1
"""Cells around what moved, in which frames agree."""
STRONG = 0.5
"""Share of a pixel from which its cell is one of a thing that moved; others belong to one."""
PREFERRED = 0.2
"""Share of a region that another frame must have unclipped beside the reference's to be taken."""
STEPS, PACKED = 8, 16
"""Steps of that share in a cell, and how many of them a number holds."""
FINALIZE_BYTES = 32
"""Bytes of each cell while regions are found (measured: 28)."""
COLUMNS = 1 << 20
"""Most cells in a row of an image."""
MOVING, REGIONS, RELATIONS = "moving", "regions", "relations"


def curves(pairs: Tensor) -> Tensor:
    """Return median and spread (N, 2, R, 3, OWN_BINS) of a frame for a value of another one.

    The spread is half of what the middle 68 % cover. `pairs` (N, R, 3, OWN_BINS, BINS) are those of
    `pairs_of`, of one reference or several.
    """
    low, middle, high = (quantile(pairs, share) for share in (0.16, 0.5, 0.84))
    spread = ((high - low) / 2).clamp(min=LEAST_SPREAD)
    known = pairs.sum(-1) >= FEWEST
    median, spread = (continued(values, known) for values in (middle, spread))
    return torch.stack([median.cummax(-1).values, spread], dim=1).float()


def finding(frames: int, reference: int, chosen: int | None) -> Sweep:
    """Return the sweep that finds what moved, given ``curves`` of the reference.

    Its statistics are `REGIONS` (N, h, w) uint8, the frame of each cell, counted from 1, or 0 where nothing
    moved; and `RELATIONS`, the medians of all frames for a value of the first one, then of the next
    one, of what did not move. `chosen` is the frame of all that moves; None: by exposure.
    """
    channels, bins = 3 + frames, (OWN_BINS, BINS)
    numbers = 1 + -(-frames // PACKED)

    def run(given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        seen = by_frame(given.view)
        share = moved(seen, given.statistics["curves"], reference, given.valid)
        cells = functional.max_pool2d(share, CELL, ceil_mode=True)
        state = (cells > 0).to(cells) + (cells >= STRONG).to(cells)
        good = ~clipped(seen) if given.valid is None else ~clipped(seen) & given.valid
        shares = functional.avg_pool2d(good.to(seen), CELL, ceil_mode=True, count_include_pad=False)
        corners = [(y // CELL, x // CELL) for y, x in given.origins]
        places = torch.stack([cell_places(corner, cells).to(cells) for corner in corners])
        still = share == 0 if given.valid is None else (share == 0) & given.valid
        return {
            MOVING: torch.cat([places, state, (shares * (STEPS - 1)).round()], dim=1),
            "colours": sampled_values(seen, still.expand(-1, frames, -1, -1)),
        }

    def count(features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
        pairs = [pairs_of(features["colours"], base, *bins) for base in range(frames)]
        return {**_listed(features[MOVING]), "pairs": torch.cat(pairs, dim=1)}

    def merged(earlier: Sums, following: Sums) -> Sums:
        pairs = earlier["pairs"] + following["pairs"]
        return {**joined(MOVING, earlier, following), "pairs": pairs}

    def finalize(sums: Sums, _: Statistics) -> Statistics:
        found = _finalized(sums, frames, reference, chosen)
        return {REGIONS: found, RELATIONS: curves(sums["pairs"])[:, 0]}

    counts = Counts(
        features=(Map(MOVING, channels, CELL), Map("colours", frames * BANDS, STEP)),
        shapes=lambda tile, _: {
            MOVING: ((tile // CELL) ** 2, numbers),
            "pairs": (frames * frames, BANDS, *bins),
            NUMBER: (),
        },
        count=count,
        statistics=(REGIONS, RELATIONS),
        finalize=finalize,
        merge=merged,
        finalize_bytes=_finalize_bytes,
        choices=(REGIONS, RELATIONS),
    )
    return Sweep("find", "Finding what moved", run, halo=HALO, counts=counts)


def moved(frames: Tensor, found: Tensor, reference: int, valid: Tensor | None) -> Tensor:
    """Return the share (N, 1, h, w) to which frames (N, F, 3, h, w) contradict the reference.

    That may be displaced by a pixel: its neighbours count, too. Where it is clipped, the only frame
    that is not is right.

    `found` (N or 1, 2, F, 3, OWN_BINS) are the curves of the whole image. `valid` (N, F, h, w) bool;
    None: all pixels are.
    """
    median, spread = found.to(frames).expand(len(frames), -1, -1, -1, -1).unbind(1)
    own = frames[:, reference : reference + 1]
    expected, around = looked_up(median, own), looked_up(spread, own)
    outside = _outside(expected, frames, around)
    # Texture hides what moved before it, but not in the mean of it.
    means = (_mean(each, TEXTURE) for each in (expected, frames, around))
    outside = torch.maximum(outside, _outside(*means))
    share = ((outside - FROM) / (FULLY - FROM)).clamp(0, 1)
    if valid is not None:
        share = torch.where(valid & valid[:, reference : reference + 1], share, 0.0)
    share = torch.where(_needed(frames, reference), 0.0, -_largest(-share, SPECKS))
    share[:, reference] = 0
    return share.amax(1, keepdim=True)


def _outside(expected: Tensor, frames: Tensor, spread: Tensor) -> Tensor:
    """Return how many spreads (N, F, h, w) frames lie outside of what is expected around a pixel."""
    below = -_largest(-expected, 1) - frames
    above = frames - _largest(expected, 1)
    return (torch.maximum(below, above) / spread).amax(2)


def without_ghosts(
    frames: Tensor,
    statistics: Statistics,
    origins: Sequence[tuple[int, int]],
    reference: int,
    amount: float,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return frames (N, F, 3, h, w) in which one frame takes the place of all in each region.

    The reference also takes that of what is not valid, so that edges of frames are not seen.

    Parameters
    ----------
    frames
        (N, F, 3, h, w), 0 to 1.
    statistics
        What `finding` counted of the whole image.
    origins
        First pixel (y, x) of each item in its image; multiples of `CELL`.
    reference
        Place of the reference among the frames.
    amount
        Share to which a frame takes the place of others, 0 to 1.
    valid
        (N, F, h, w) bool; None: all pixels are.

    Returns
    -------
    tuple
        The frames, and the share (N, F, 1, h, w) to which each was replaced because it moved.
    """
    number = frames.shape[1]
    chosen, medians = statistics[REGIONS], statistics[RELATIONS].to(frames)
    medians = medians.expand(len(frames), -1, -1, -1)
    medians = medians.reshape(len(frames), number, number, *medians.shape[2:])
    replaced, shares = frames.clone(), frames.new_zeros(*frames.shape[:2], 1, *frames.shape[3:])
    for item, (y, x) in enumerate(origins):
        grid = chosen[item if len(chosen) > 1 else 0]
        part, rows, columns = _part(grid, (y, x), frames.shape[3:])
        for base in range(number):
            if not bool((part == base + 1).any()):
                continue
            share = amount * _between(_between((part == base + 1).to(frames), 0, rows), 1, columns)
            if valid is not None:
                share = share * valid[item, base]
            own = frames[item : item + 1, base : base + 1]
            expected = looked_up(medians[item : item + 1, base], own)[0]
            others = [place for place in range(number) if place != base]
            replaced[item, others] += share * (expected - frames[item])[others]
            shares[item, others] += share
    if valid is None:
        return replaced, shares
    expected = looked_up(medians[:, reference], frames[:, reference : reference + 1])
    return torch.where(valid[:, :, None], replaced, expected), shares


def clipped(frames: Tensor) -> Tensor:
    """Return where frames (N, F, 3, h, w) are clipped (N, F, h, w): all black, or a band white."""
    return (frames.amax(2) >= WHITE) | (frames.amax(2) <= BLACK)


def _needed(frames: Tensor, reference: int) -> Tensor:
    """Return where a frame is the only one that is not clipped (N, F, h, w), the reference being."""
    lost = clipped(frames)
    alone = (~lost).sum(1, keepdim=True) == 1
    return ~lost & alone & lost[:, reference : reference + 1]


def _listed(features: Tensor) -> Sums:
    """Return the cells in which something moved, and the last one, as lists (N, h · w, numbers)."""
    # A row has place and state in one number, and the shares of frames that are not clipped in
    # others.
    cells = features.double().flatten(2)
    row, column, state = cells[:, 0], cells[:, 1], cells[:, 2]
    columns = [(row * COLUMNS + column) * 3 + state]
    for first in range(3, cells.shape[1], PACKED):
        some = cells[:, first : first + PACKED]
        powers = STEPS ** torch.arange(some.shape[1], dtype=some.dtype, device=some.device)
        columns.append((some * powers[:, None]).sum(1))
    rows = torch.stack(columns, dim=2)
    kept = state > 0
    kept[:, -1] = True
    # Those that are kept come first, in their order.
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    number = kept.sum(1)
    rows = rows.gather(1, order[..., None].expand(rows.shape))
    used = torch.arange(rows.shape[1], device=rows.device) < number[:, None]
    return {MOVING: torch.where(used[..., None], rows, 0.0), NUMBER: number.double()}


def _finalize_bytes(size: tuple[int, int]) -> tuple[int, int]:
    """Return the bytes of finding regions, and of their grid, of an image of height and width."""
    cells = -(-size[0] // CELL) * -(-size[1] // CELL)
    return FINALIZE_BYTES * cells, cells


def _finalized(sums: Sums, frames: int, reference: int, chosen: int | None) -> Tensor:
    """Return the regions (N, h, w) uint8 of the listed cells of each image."""
    each = []
    for rows, number in zip(sums[MOVING], sums[NUMBER], strict=True):
        listed = rows[: int(number)].cpu()
        place, state = listed[:, 0].long() // 3, (listed[:, 0].long() % 3).to(torch.uint8)
        y, x = place // COLUMNS, place % COLUMNS
        numbers = listed[:, 1:].long()
        shift = torch.arange(frames)
        shares = (numbers[:, shift // PACKED] // STEPS ** (shift % PACKED)) % STEPS
        size = int(y.max()) + 1, int(x.max()) + 1
        states = torch.zeros(size, dtype=torch.uint8)
        states[y, x] = state
        found = regions(states)
        choice = frames_of_regions(found[y, x], state, shares, reference, chosen)
        each.append(choice[found])
    return torch.stack(each).to(sums[MOVING].device)


def regions(states: Tensor) -> Tensor:
    """Return the numbers (h, w), from 1 on, of the regions of cells in which something moved.

    `states` (h, w): 2 where it did, 1 where it may have, which counts beside such cells. Gaps and
    holes are closed, and what moved is enlarged by `GROWTH` cells.
    """
    gap = max(2, round(max(states.shape) / JOINED))
    strong = states == 2
    if not bool(strong.any()):
        return torch.zeros(states.shape, dtype=torch.long)
    closed = ~_grown(~_grown(strong, gap), gap) | strong
    mask = closed | (states > 0)
    labels = _connected(mask)
    own = torch.zeros(int(labels.max()) + 1, dtype=torch.bool)
    own[labels[strong]] = True
    own[0] = False
    mask = own[labels]
    holes = _connected(~mask)
    sizes = torch.bincount(holes.flatten())
    filled = sizes <= (4 * gap) ** 2
    filled[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        filled[edge] = False
    return _connected(_grown(mask | filled[holes], GROWTH))


def frames_of_regions(
    region: Tensor, state: Tensor, shares: Tensor, reference: int, chosen: int | None
) -> Tensor:
    """Return the frame of each region, counted from 1, and 0 for no region, as uint8.

    `region` (n,), `state` (n,) and `shares` (n, F) are those of the listed cells. The reference, but
    where it is clipped much more than another frame: that which is clipped least.
    """
    count = int(region.max()) + 1
    used = ((region > 0) & (state > 0)).double()
    sums = torch.zeros(count, shares.shape[1], dtype=torch.float64)
    sums.index_add_(0, region, shares.double() * used[:, None])
    cells = torch.zeros(count, dtype=torch.float64).index_add_(0, region, used).clamp(min=1)
    means = sums / cells[:, None] / (STEPS - 1)
    best, place = means.max(1)
    frame = torch.where(best - means[:, reference] > PREFERRED, place, reference)
    if chosen is not None:
        frame = torch.full_like(frame, chosen)
    frame += 1
    frame[0] = 0
    return frame.to(torch.uint8)


def _grown(mask: Tensor, radius: int) -> Tensor:
    """Return a mask (h, w) grown by a square of so many cells on each side."""
    grown = mask[None, None].to(torch.uint8).float()
    for kernel, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
        grown = functional.max_pool2d(grown, kernel, 1, padding)
    return grown[0, 0] > 0


def _connected(mask: Tensor) -> Tensor:
    """Return the numbers (h, w) int32, from 1 on, of what is connected in a mask, corners included."""
    # In rows that are wider by a cell at both ends, so that runs of one do not touch the next one.
    # Each run of cells of a row takes the least number of those it touches, then that of the run it
    # names, until nothing changes (Shiloach, Vishkin 1982).
    row = mask.shape[1] + 2
    steps = functional.pad(mask.to(torch.int8), (1, 1)).flatten().diff()
    starts, ends = (1 + (steps == step).nonzero()[:, 0] for step in (1, -1))
    del steps
    first = torch.searchsorted(ends, starts + row - 1, right=True)
    touched = (torch.searchsorted(starts, ends + row + 1) - first).clamp(min=0)
    number = torch.arange(len(starts))
    one = number.repeat_interleave(touched)
    before = touched.cumsum(0) - touched
    other = torch.arange(len(one)) + (first - before).repeat_interleave(touched)
    parent = number.clone()
    while True:
        least = torch.minimum(parent[one], parent[other])
        linked = parent.scatter_reduce(0, parent[one], least, "amin")
        linked = linked.scatter_reduce(0, parent[other], least, "amin")
        while not torch.equal(linked, linked[linked]):
            linked = linked[linked]
        if torch.equal(linked, parent):
            break
        parent = linked
    labels = (1 + torch.unique(parent, return_inverse=True)[1]).int()
    found = torch.zeros(mask.shape, dtype=torch.int32)
    return found.masked_scatter_(mask, labels.repeat_interleave(ends - starts))


Between = tuple[Tensor, Tensor, Tensor]
"""Two places, and the share of the second."""


def _part(
    grid: Tensor, origin: tuple[int, int], size: Sequence[int]
) -> tuple[Tensor, Between, Between]:
    """Return the part of a grid of cells around a box of pixels, and what each pixel lies between."""
    found, slices = [], []
    for first, length, total in zip(origin, size, grid.shape, strict=True):
        # In 16ths of a cell, from the middle of the first one: without rounding.
        place = 2 * torch.arange(first, first + length, device=grid.device) - (CELL - 1)
        low = torch.div(place, 2 * CELL, rounding_mode="floor")
        share = (place - 2 * CELL * low) / (2 * CELL)
        before, after = low.clamp(0, total - 1), (low + 1).clamp(0, total - 1)
        start = int(before[0])
        slices.append(slice(start, int(after[-1]) + 1))
        found.append((before - start, after - start, share))
    rows, columns = found
    return grid[slices[0], slices[1]], rows, columns


def _between(values: Tensor, axis: int, places: Between) -> Tensor:
    """Return values (h, w) between those of cells along an axis."""
    before, after, share = places
    share = share.to(values).view((-1, 1) if axis == 0 else (1, -1))
    lower, upper = values.index_select(axis, before), values.index_select(axis, after)
    return lower + share * (upper - lower)


def _largest(x: Tensor, radius: int) -> Tensor:
    """Return the largest of the square around each pixel of x (…, h, w)."""
    return _over(x, radius, torch.maximum)


def _mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean of the square around each pixel of x (…, h, w)."""
    return _over(x, radius, torch.add) / (2 * radius + 1) ** 2


def _over(x: Tensor, radius: int, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return a sum or largest value over squares; edges reflected."""
    # By slices, not pooling: a value is then the same to the bit wherever an image is cut.
    for axis in (-2, -1):
        length = x.shape[axis]
        wide = x.index_select(axis, reflected(length, length + 2 * radius, x.device, before=radius))
        x = wide.narrow(axis, 0, length)
        for start in range(1, 2 * radius + 1):
            x = of_two(x, wide.narrow(axis, start, length))
    return x
