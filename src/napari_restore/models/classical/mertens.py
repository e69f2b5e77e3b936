"""Exposure fusion by contrast, saturation and well-exposedness, blended in a pyramid.

The pyramid is split at a level of cells of `CELL` pixels. A first sweep lists that level of all
frames and weights, tile by tile; everything above it is blended at once, as it is a small image. A
second sweep blends the levels below from the pixels. So the result is that of the whole image, and
once the upper part is known a pixel needs its neighbours only. With `deghost` two sweeps before them
count how the frames relate, and find what moved.

Source: Mertens, Kautz, Van Reeth, "Exposure Fusion", Pacific Graphics 2007.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from napari_restore.errors import BadParameter
from napari_restore.models._card import ModelCard
from napari_restore.models._exposure_curves import by_frame, comparing
from napari_restore.models._layers import reflected
from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput, cell_places
from napari_restore.models._sweeps import NUMBER, SweptModel, joined, listed, rows_of_tile
from napari_restore.models.classical import ghosts as _ghosts

LEVEL = 5
"""Level of the pyramid at which it is split."""
CELL = 1 << LEVEL
BANDS = 3
PLACE = 4
"""Numbers that tell a cell's place: its row, its column, and the row and column of the pixel after
its last one."""
GREY = (0.299, 0.587, 0.114)
LEAST_WEIGHT = 1e-12
STRIP = 1 << 18
"""Pixels that a processor works on at once: so few that they stay in its cache, so many that threads seldom
wait for Python's lock."""
GHOSTS = "ghosts"
"""Side map: the share to which one frame takes the place of the others, as something moved."""


class Mertens(SweptModel):
    """The weighted mean of the frames (N, F · 3, H, W) of a bracket, level by level of a pyramid.

    The weight of a pixel of a frame is contrast^a · saturation^b · well-exposedness^c. Contrast is the
    size of the Laplacian of the grey value, saturation the deviation of the colours from their
    mean, well-exposedness the product over colours of a bell curve round `optimum`. Frames of one
    band have no saturation, which then does not count, and one well-exposedness. Returns
    (N, 3, H, W), cut to 0 … 1: the blend alone goes beyond by a third.
    """

    pads = False
    """Edges of the image are those of the pyramid."""

    def steps(self) -> tuple[Sweep, ...]:
        frames = self.card.inputs
        channels = PLACE + frames * (BANDS + 1)
        cells = Map("cells", channels, CELL)
        counts = Counts(
            features=(cells,),
            shapes=lambda tile, _: {"cells": ((tile // CELL) ** 2, channels), NUMBER: ()},
            count=partial(listed, "cells"),
            statistics=("coarse", "levels"),
            finalize=self._finalize,
            merge=partial(joined, "cells"),
            of_tile=partial(rows_of_tile, "cells"),
            finalize_bytes=_finalize_bytes,
        )
        writes = (Map(RESTORED, BANDS), *([Map(GHOSTS, 1)] if self.deghosts else []))
        sweeps = (
            Sweep("reduce", "Coarse levels", self._reduce, halo=2 * CELL, counts=counts),
            Sweep("blend", "Blending", self._blend, writes=writes, halo=3 * CELL),
        )
        if not self.deghosts:
            return sweeps
        bins = (_ghosts.OWN_BINS, _ghosts.BINS)
        compare = comparing(frames, self._reference, bins, _ghosts.curves)
        return (compare, _ghosts.finding(frames, self._reference, self._moving), *sweeps)

    @property
    def deghosts(self) -> bool:
        """Whether one frame takes the place of the others where something moved."""
        return float(self.card.values["deghost"]) > 0

    @property
    def _reference(self) -> int:
        return (self.card.inputs - 1) // 2 if self.reference is None else self.reference

    @property
    def _moving(self) -> int | None:
        """The frame, counted from 0, that all that moves is taken from; None: chosen by exposure."""
        number = int(self.card.values["moving"])
        if number > self.card.inputs:
            raise BadParameter(
                f"There is no frame {number} of {self.card.inputs}.",
                "Set moving to the number of a frame, counted from the darkest, or to 0.",
            )
        return number - 1 if number else None

    def weights(self, frames: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the weights (N, F, 1, h, w) of frames (N, F, 3, h, w): they add up to 1.

        `valid` (N, F, h, w) bool: pixels that are not valid weigh nothing, unless none is.
        """
        parts = []
        for start, end in strips(frames):
            # The Laplacian needs one row more on both sides.
            rows = slice(max(0, start - 1), end + 1)
            known = None if valid is None else valid[..., rows, :]
            part = self._weights(frames[..., rows, :], known)
            parts.append(part.narrow(-2, start - rows.start, end - start))
        return joined_strips(parts)

    def _weights(self, frames: Tensor, valid: Tensor | None) -> Tensor:
        """Return what `weights` does, of all rows at once."""
        weight = torch.stack([self._weight(frame) for frame in frames.unbind(1)], dim=1)
        if valid is not None:
            weight = weight * valid[:, :, None]
            weight = weight + LEAST_WEIGHT * (weight.sum(1, keepdim=True) == 0)
        return weight / weight.sum(1, keepdim=True)

    def _weight(self, frame: Tensor) -> Tensor:
        """Return the weight (N, 1, h, w), of any size, of a frame (N, 3, h, w)."""
        value = self.card.values
        red, green, blue = (frame[:, i : i + 1] for i in range(BANDS))
        grey = red * GREY[0]
        grey += green * GREY[1]
        grey += blue * GREY[2]
        contrast = laplacian(grey).abs()
        from_optimum = _squares(frame - float(value["optimum"]))
        exposedness = torch.exp(from_optimum / (-2 * float(value["width"]) ** 2))
        weight = _power(contrast, float(value["contrast"]))
        if self.grey:
            return weight * _power(exposedness, float(value["exposure"]) / BANDS) + LEAST_WEIGHT
        saturation = _power(_squares(frame - (red + green + blue) / BANDS), 0.5)
        weight = weight * _power(saturation, float(value["saturation"]))
        return weight * _power(exposedness, float(value["exposure"])) + LEAST_WEIGHT

    def _frames(self, given: SweepInput) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return frames and weights of a batch, and the shares to which frames were replaced."""
        assert given.view is not None
        frames = by_frame(given.view)
        ghosts = None
        if self.deghosts:
            amount = float(self.card.values["deghost"])
            own = self._reference
            frames, ghosts = _ghosts.without_ghosts(
                frames, given.statistics, given.origins, own, amount, given.valid
            )
        if given.valid is None:
            return frames, self.weights(frames), ghosts
        known = given.valid
        if ghosts is not None:
            # By now frames are whole where the reference is.
            known = known[:, own : own + 1].expand(known.shape)
        # Neighbours see through the pyramid what stands where a frame is not valid.
        valid = known[:, :, None]
        count = valid.sum(1, keepdim=True)
        mean = torch.where(valid, frames, 0).sum(1, keepdim=True) / count.clamp(min=1)
        frames = torch.where(valid, frames, mean)
        return frames, self.weights(frames, known), ghosts

    def _reduce(self, given: SweepInput) -> Mapping[str, Tensor]:
        """Return the cells of level `LEVEL`: place, frames, weights."""
        frames, weights, _ = self._frames(given)
        height, width = frames.shape[-2:]
        cells = []
        for frame, weight in zip(frames.unbind(1), weights.unbind(1), strict=True):
            for _ in range(LEVEL):
                frame, weight = down(frame), down(weight)
            cells.append(torch.cat([frame, weight], dim=1))
        both = torch.stack(cells, dim=1)
        places = [_places(y, x, height, width, both) for y, x in given.origins]
        return {"cells": torch.cat([torch.stack(places), both.flatten(1, 2)], dim=1)}

    def _finalize(self, sums: Sums, _: Statistics) -> Statistics:
        """Return the blend of all levels from `LEVEL` up (N, 3, h, w), and the number of levels (N,)."""
        lists = zip(sums["cells"], sums[NUMBER], strict=True)
        each = (self._upper(rows[: int(used)]) for rows, used in lists)
        coarse, levels = zip(*each, strict=True)
        return {"coarse": torch.stack(coarse), "levels": torch.tensor(levels)}

    def _upper(self, cells: Tensor) -> tuple[Tensor, int]:
        """Return what `_finalize` does for the listed cells (R, channels) of one image."""
        rows, columns = cells[:, 0].long(), cells[:, 1].long()
        grid = cells.new_zeros(int(rows.max()) + 1, int(columns.max()) + 1, cells.shape[1] - PLACE)
        grid[rows, columns] = cells[:, PLACE:]
        short = int(cells[:, 2:4].amax(0).min())
        most = int(self.card.values["levels"]) or 64
        levels = min(most, short.bit_length() - 1)
        both = by_frame(grid.permute(2, 0, 1)[None], BANDS + 1)
        top = blend(both[:, :, :BANDS], both[:, :, BANDS:], max(0, levels - LEVEL), None)
        return top[0].float(), levels

    def _blend(self, given: SweepInput) -> Mapping[str, Tensor]:
        frames, weights, ghosts = self._frames(given)
        # Of one image, or of each of the batch.
        coarse, levels = given.statistics["coarse"], int(given.statistics["levels"][0])
        top = None
        if levels >= LEVEL:
            height, width = (-(-side // CELL) for side in frames.shape[-2:])
            tops = []
            for item, (y, x) in enumerate(given.origins):
                rows, columns = (
                    slice(y // CELL, y // CELL + height),
                    slice(x // CELL, x // CELL + width),
                )
                tops.append(coarse[item if len(coarse) > 1 else 0][:, rows, columns])
            top = torch.stack(tops)
        made = {RESTORED: blend(frames, weights, min(levels, LEVEL), top).clamp(0, 1)}
        return made if ghosts is None else {**made, GHOSTS: ghosts.amax(1)}


def laplacian(grey: Tensor) -> Tensor:
    """Return the sum of the four neighbours less four times the pixel; edges reflected."""
    total = -4 * grey
    for axis in (-2, -1):
        _add_neighbours(total, grey, axis, after=max(0, grey.shape[axis] - 2))
    return total


def _add_neighbours(total: Tensor, x: Tensor, axis: int, after: int) -> None:
    """Add to each of `total` those beside it in `x`; `after` is the place of that after the last."""
    # In this order everywhere, so that a value is the same to the bit.
    length = x.shape[axis]
    total.narrow(axis, 1, length - 1).add_(x.narrow(axis, 0, length - 1))
    total.narrow(axis, 0, 1).add_(x.narrow(axis, min(1, length - 1), 1))
    total.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1))
    total.narrow(axis, length - 1, 1).add_(x.narrow(axis, after, 1))


def _squares(x: Tensor) -> Tensor:
    """Return the sums of squares over colours (N, 1, h, w) of (N, 3, h, w)."""
    red, green, blue = (x[:, i : i + 1] for i in range(BANDS))
    total = red * red
    total += green * green
    total += blue * blue
    return total


def _power(x: Tensor, exponent: float) -> Tensor:
    """Return x (0 or more) to the power `exponent`, whose slope at 0 is taken as 0."""
    if exponent == 1:
        return x
    if not x.requires_grad:
        return x.sqrt() if exponent == 0.5 else x**exponent
    above = x > 0
    return torch.where(above, torch.where(above, x, 1) ** exponent, float(exponent == 0))


def _places(y: int, x: int, height: int, width: int, like: Tensor) -> Tensor:
    """Return the place (4, h, w) of each cell of a box of pixels; see `PLACE`."""
    cells = cell_places((y // CELL, x // CELL), like)
    end = cells.new_tensor([y + height, x + width])[:, None, None]
    return torch.cat([cells, torch.minimum((cells + 1) * CELL, end)]).to(like.dtype)


def _finalize_bytes(size: tuple[int, int]) -> tuple[int, int]:
    """Return no bytes beside those of the list, and those of the coarse blend, as `Counts` asks."""
    cells = -(-size[0] // CELL) * -(-size[1] // CELL)
    return 0, 4 * BANDS * cells


def make(card: ModelCard) -> Mertens:
    """Return the method; the number of frames is that of each image."""
    if float(card.values["deghost"]) == 0:
        card = replace(card, maps=())
    return Mertens(card)


def strips(x: Tensor) -> list[tuple[int, int]]:
    """Return the first row and the end of strips of `x` (…, H, W), which begin at even rows."""
    # One strip where gradients are computed, and on devices that are quick on large tensors only.
    height, width = x.shape[-2:]
    rows = max(2, STRIP // width // 2 * 2)
    if x.requires_grad or x.device.type != "cpu":
        rows = height
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def joined_strips(parts: Sequence[Tensor]) -> Tensor:
    """Return strips (…, h, W), top to bottom, as one tensor (…, H, W)."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -2)


def down(x: Tensor) -> Tensor:
    """Return `x` (…, H, W) smoothed at every second pixel, (…, ⌈H/2⌉, ⌈W/2⌉); edges reflected."""
    height = x.shape[-2]
    parts = []
    for start, end in strips(x):
        if start >= 2 and end + 2 <= height:
            rows = x[..., start - 2 : end + 2, :]
        else:
            # Two rows before the first and after the last one.
            index = reflected(height, height + 4, x.device, before=2)
            rows = x.index_select(-2, index[start : end + 4])
        five = (rows[..., number : number + end - start : 2, :] for number in range(5))
        part = _halved(_summed(*five))
        part *= 1 / 256
        parts.append(part)
    return joined_strips(parts)


def _halved(x: Tensor) -> Tensor:
    """Return 16 times `x` (…, W) smoothed at every second value, (…, ⌈W/2⌉); edges reflected."""
    width = x.shape[-1]
    if width < 5:
        x = x.index_select(-1, reflected(width, width + 4, x.device, before=2))
        return _summed(*(x[..., number : number + width : 2] for number in range(5)))
    # Only what the two ends need is copied, to be reflected.
    last = (width - 1) // 2 * 2
    after = [last + 1, last] if width % 2 == 0 else [last - 1, last - 2]
    places = torch.tensor([2, 1, 0, 1, 2, last - 2, last - 1, last, *after], device=x.device)
    ends = _summed(*x.index_select(-1, places).view(*x.shape[:-1], 2, 5).unbind(-1))
    within = _summed(*(x[..., number : last - 3 + number : 2] for number in range(5)))
    return torch.cat([ends[..., :1], within, ends[..., 1:]], -1)


def _summed(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    """Return 16 times the means of five neighbours by their weights 1, 4, 6, 4, 1."""
    total = a + e
    # Four times is exact, so a value is the same to the bit whether it is rounded before or not.
    total.add_(b + d, alpha=4)
    total += 6 * c
    return total


def up(x: Tensor, size: Sequence[int], rows: tuple[int, int] | None = None) -> Tensor:
    """Return `x` (…, ⌈H/2⌉, ⌈W/2⌉) interpolated to `size` (H, W), or only `rows` of it, times 64.

    Before the first pixel the second one is repeated, after the last one that itself, as by
    OpenCV's `pyrUp`. `rows` are the first, an even one, and the end.
    """
    start, end = (0, size[0]) if rows is None else rows
    # A row of the result needs one row more on both sides.
    first = max(0, start // 2 - 1)
    x = x[..., first : -(-end // 2) + 1, :]
    x = _doubled(x, -2).narrow(-2, start - 2 * first, end - start)
    return _doubled(x, -1).narrow(-1, 0, size[1])


def _doubled(x: Tensor, axis: int) -> Tensor:
    """Return `x` smoothed, with a value between each and the next one along `axis`, times 8."""
    axis, length = axis % x.dim(), x.shape[axis]
    is_last, has_gradient = axis == x.dim() - 1, x.requires_grad
    if is_last or has_gradient:
        even, odd = x * 6, x * 4
    else:
        out = x.new_empty([*x.shape[: axis + 1], 2, *x.shape[axis + 1 :]])
        even, odd = (
            torch.mul(x, factor, out=out.select(axis + 1, number))
            for number, factor in enumerate((6, 4))
        )
    _add_neighbours(even, x, axis, after=length - 1)
    # Four times is exact, as above.
    odd.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1), alpha=4)
    odd.narrow(axis, length - 1, 1).add_(x.narrow(axis, length - 1, 1), alpha=4)
    if has_gradient or (is_last and x.dtype not in (torch.float32, torch.float64)):
        return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)
    # As complex numbers two values side by side are written at once: a third of the time.
    return (
        torch.view_as_real(torch.complex(even, odd)).flatten(-2)
        if is_last
        else out.flatten(axis, axis + 1)
    )


def blend(frames: Tensor, weights: Tensor, levels: int, top: Tensor | None) -> Tensor:
    """Return the blend (N, C, H, W) of frames (N, F, C, H, W) by the pyramids of their weights.

    So many levels are blended as differences to the next one. `top` is the blend of the last one
    (N, C, h, w); None: the weighted mean. `weights` are (N, F, 1, H, W). Source: Burt, Adelson 1983;
    Mertens, Kautz, Van Reeth 2007.
    """
    details: list[Tensor] = []
    last: Tensor | None = None
    # One frame after the other, so that only its own levels are in memory.
    for frame, weight in zip(frames.unbind(1), weights.unbind(1), strict=True):
        for level in range(levels):
            smaller = down(frame)
            if level == len(details):
                details.append(_detail(frame, smaller, weight))
            else:
                _detail(frame, smaller, weight, details[level])
            frame, weight = smaller, down(weight)
        if top is None:
            last = frame * weight if last is None else last + frame * weight
    result = last if top is None else top
    assert result is not None
    for detail in reversed(details):
        size = detail.shape[-2:]
        for start, end in strips(detail):
            detail[..., start:end, :].add_(up(result, size, (start, end)), alpha=1 / 64)
        result = detail
    return result


def _detail(frame: Tensor, smaller: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """Return what `frame` (N, C, H, W) has more than its next level, times its weight; adds it to `total`."""
    parts = []
    for start, end in strips(frame):
        beside = up(smaller, frame.shape[-2:], (start, end))
        detail = torch.sub(frame[..., start:end, :], beside, alpha=1 / 64)
        own = weight[..., start:end, :]
        detail = detail * own if detail.requires_grad else detail.mul_(own)
        if total is None:
            parts.append(detail)
        else:
            total[..., start:end, :] += detail
    return joined_strips(parts) if total is None else total
