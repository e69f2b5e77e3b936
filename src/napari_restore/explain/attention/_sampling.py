"""Queries drawn at random: a valid pixel in each stratum of an image or a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from napari_restore.engine import Region
from napari_restore.explain.attention._queries import Query

DRAWS = 64
"""Pixels that are drawn in a stratum, at most, until one is valid."""


def strata(box: Region, count: int) -> list[Region]:
    """Return at most `count` boxes that divide `box`, nearly square and of nearly the same area.

    Rows of them, each as high as its share of the boxes. There are fewer where some would have no pixel.
    """
    rows = round(math.sqrt(count * box.height / box.width))
    rows = min(max(rows, 1), count)
    in_row = [count // rows + (row < count % rows) for row in range(rows)]
    found, before = [], 0
    for number in in_row:
        top, bottom = (box.height * edge // count for edge in (before, before + number))
        before += number
        edges = [box.width * edge // number for edge in range(number + 1)]
        found += [
            Region(box.y0 + top, box.x0 + left, box.y0 + bottom, box.x0 + right)
            for left, right in pairwise(edges)
        ]
    return [each for each in found if not each.is_empty]


def sampled(
    box: Region, count: int, seed: int, is_valid: Callable[[tuple[int, int]], bool]
) -> tuple[Query, ...]:
    """Return a query in each of `count` strata of `box`: the first of `DRAWS` pixels that is valid.

    Every stratum has random numbers of its own, which follow from `seed` and its number: a pixel that is
    not valid changes no query of another stratum. Strata without one have no query.
    """
    return tuple(_drawn(strata(box, count), seed, is_valid))


def _drawn(
    boxes: list[Region], seed: int, is_valid: Callable[[tuple[int, int]], bool]
) -> Iterator[Query]:
    for number, box in enumerate(boxes):
        rng = np.random.default_rng((seed, number))
        for _ in range(DRAWS):
            pixel = int(rng.integers(box.y0, box.y1)), int(rng.integers(box.x0, box.x1))
            if is_valid(pixel):
                yield Query.point(*pixel)
                break
