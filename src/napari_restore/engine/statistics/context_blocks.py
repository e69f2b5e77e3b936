"""Blocks of an image in which its context is counted, in any order and on several threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region, cut
from napari_restore.engine.masks.mask_strength import MaskStrength
from napari_restore.engine.statistics.bands import visible_bands
from napari_restore.engine.statistics.kept import all_bins, used_bins
from napari_restore.images import Image
from napari_restore.models import BINS, BLOCK, BlockStatistics, ContextPass, overview_factor

BLOCK_SIDE = 2048
"""Side in pixels of the blocks of a pass: a multiple of every overview factor in use."""
READ_ROWS = 512
"""Least rows of a block that are read together, in whole chunks: beside the overview a block of
floats needs as much again."""
COUNTING_BYTES = 4
"""Bytes per value read together that counting takes beside them (measured)."""
SAMPLE_CHUNKS = 4
"""A sample reads this many chunks across and down …"""
SAMPLE_SIDE = 512
"""… at this many pixels squared of each."""


@dataclass(frozen=True)
class BlockPart:
    """What another process has counted in a block, without the bins that are empty."""

    overview: npt.NDArray[np.float32]
    """(h, w, C), the block in the overview."""
    counts: dict[str, npt.NDArray[Any]] | None
    """See `used_bins`; None where no pixel is valid."""


class ContextBlocks:
    """The blocks of an image or `region`, or a few, `sampled`, without what `exclude` covers, and their pass."""

    def __init__(
        self,
        image: Image,
        exclude: MaskStrength | None,
        region: Region | None,
        *,
        sampled: bool,
    ) -> None:
        self._image, self._exclude = image, exclude
        self._scope = scope = region or Region(0, 0, image.height, image.width)
        self.whole = ContextPass(
            scope.height, scope.width, image.bands, image.dtype, dark_bands(image)
        )
        side = max(BLOCK_SIDE, self.whole.factor)
        self.boxes = list(cut(Region(0, 0, *scope.shape), side))
        """Counted from the corner of the region."""
        if sampled:
            self.boxes = _spread(image, self.whole.factor)
        self._rows = rows_read(image, self.whole.factor)

    def count(self, block: Region) -> BlockStatistics | None:
        """Return the statistics of one of `boxes`; may be called from several threads."""
        total = None
        for rows in cut(block, self._rows, block.width):
            part = self._measure(rows)
            total = part if total is None else total.plus(part)
        return total

    def part(self, block: Region) -> BlockPart:
        """Return the statistics of one of `boxes` for `take` in another process."""
        counts = self.count(block)
        overview = self.whole.overview_of(block.y0, block.x0, block.shape)
        return BlockPart(overview, None if counts is None else used_bins(counts))

    def take(self, block: Region, part: BlockPart) -> BlockStatistics | None:
        """Write the overview of a `part` of this image; return its statistics, as `count` does."""
        self.whole.overview_of(block.y0, block.x0, block.shape)[:] = part.overview
        return None if part.counts is None else all_bins(part.counts)

    def _measure(self, block: Region) -> BlockStatistics | None:
        image, box = self._image, block.shift(self._scope.y0, self._scope.x0)
        image.fetch_ahead(box)
        valid = image.read_representative(box) if image.may_be_invalid else None
        if self._exclude is not None:
            counted = self._exclude.read(box) == 0
            valid = counted if valid is None else valid & counted
        return self.whole.measure(block.y0, block.x0, light_only(image, image.read(box)), valid)


def rows_read(image: Image, factor: int) -> int:
    """Return how many rows of a block are read together, for an overview of this factor."""
    rows = -(-READ_ROWS // image.chunk[0]) * image.chunk[0]
    return max(BLOCK_SIDE, factor) if rows % max(BLOCK, factor) else rows


def part_bytes(image: Image) -> int:
    """Return the bytes that counting a block takes, with those of its pixels as decoded and read."""
    factor = overview_factor(image.height, image.width)
    side = max(BLOCK_SIDE, factor)
    rows = min(image.height, side, rows_read(image, factor))
    values = rows * min(image.width, side) * image.bands
    counts = 3 * BINS * image.bands * 8
    return values * (2 * image.dtype.itemsize + COUNTING_BYTES) + counts


def light_only(image: Image, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `pixels` (h, w, C) with 0 in auxiliary bands: codes and angles are in no statistic."""
    blank = [b for b in range(image.bands) if b not in image.data_bands]
    blank = [b for b in blank if image.roles[b] != "alpha"]
    if blank:
        pixels[..., blank] = 0
    return pixels


def dark_bands(image: Image) -> tuple[int, ...]:
    """Return the bands of the dark channel: the visible ones where roles are known, else all data bands."""
    return visible_bands(image) or image.data_bands


def _spread(image: Image, factor: int) -> list[Region]:
    """Return the blocks of a sample: parts of up to SAMPLE_CHUNKS² chunks, spread evenly over the image."""
    step = max(BLOCK, factor)
    picked: list[list[tuple[int, int]]] = []
    for length, chunk in zip((image.height, image.width), image.chunk, strict=True):
        count = min(SAMPLE_CHUNKS, -(-length // chunk))
        spans = []
        for number in range(count):
            low = int((number + 0.5) * length / count) // chunk * chunk
            low = -(-low // step) * step
            high = min(low + max(step, min(chunk, SAMPLE_SIDE) // step * step), length)
            if low < high:
                spans.append((low, high))
        picked.append(spans or [(0, min(length, step))])
    rows, columns = picked
    return [Region(y0, x0, y1, x1) for y0, y1 in rows for x0, x1 in columns]
