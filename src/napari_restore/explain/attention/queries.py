"""Queries: points or boxes of an image, for which attention is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_restore.engine import Region
from napari_restore.errors import BadRegion, InputError
from napari_restore.explain.attribution.files import csv_rows
from napari_restore.images import Image

SAMPLES = 64
"""Most pixels of a box whose rows are averaged."""


@dataclass(frozen=True)
class Query:
    """A pixel of the image, or a box whose cells' rows are averaged. Level-0 pixels."""

    box: Region
    name: str | None = None

    @classmethod
    def point(cls, y: int, x: int, name: str | None = None) -> Query:
        """Return the query of one pixel."""
        return cls(Region(y, x, y + 1, x + 1), name)

    @property
    def is_point(self) -> bool:
        return self.box.pixels == 1

    @property
    def label(self) -> str:
        """Return text for layers and figures."""
        y0, x0, y1, x1 = self.box
        place = f"x {x0}, y {y0}"
        if not self.is_point:
            place = f"x {x0}–{x1 - 1}, y {y0}–{y1 - 1}"
        return place if self.name is None else f"{self.name} ({place})"

    def pixels(self, stride: int) -> list[tuple[int, int]]:
        """Return the pixels (y, x) whose rows are averaged: the middles of cells of `stride` pixels.

        At most `SAMPLES`, spread evenly over the box.
        """
        y0, x0, y1, x1 = self.box
        rows, columns = self.cells(stride)
        ratio = min(1.0, math.sqrt(SAMPLES / (rows * columns)))
        taken = min(SAMPLES, max(1, int(rows * ratio)))
        across = min(columns, SAMPLES // taken)
        taken = min(rows, SAMPLES // across)
        ys = _middles(y0, y1, stride, rows, taken)
        xs = _middles(x0, x1, stride, columns, across)
        return [(y, x) for y in ys for x in xs]

    def is_sampled(self, stride: int) -> bool:
        """Return whether the box has more cells than are averaged."""
        rows, columns = self.cells(stride)
        return rows * columns > SAMPLES

    def cells(self, stride: int) -> tuple[int, int]:
        """Return rows and columns of the cells of `stride` pixels that the query lies in."""
        y0, x0, y1, x1 = self.box
        return -(-y1 // stride) - y0 // stride, -(-x1 // stride) - x0 // stride

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "box": list(self.box)}


def _middles(low: int, high: int, stride: int, cells: int, taken: int) -> list[int]:
    """Return the middles of `taken` of the `cells` that [low, high) lies in, within it."""
    first = low // stride
    numbers = [first + (2 * i + 1) * cells // (2 * taken) for i in range(taken)]
    return [min(max(stride * number + stride // 2, low), high - 1) for number in numbers]


def checked(queries: Sequence[Query], image: Image) -> tuple[Query, ...]:
    """Return the queries, cut to the image; raises `BadRegion` for one outside of it."""
    whole = Region(0, 0, image.height, image.width)
    found = []
    for query in queries:
        if query.box.is_empty:
            height, width = query.box.shape
            raise BadRegion(
                f"A box of {width} × {height} pixels is empty.",
                "Give a width and a height above 0.",
            )
        inside = query.box.intersect(whole)
        if inside.is_empty:
            raise BadRegion(
                f"The query at {query.label} lies outside of {image.name}, which has "
                f"{image.width} × {image.height} pixels.",
                "Give a pixel within it.",
            )
        found.append(Query(inside, query.name))
    return tuple(found)


def queries_in(path: str | Path) -> tuple[Query, ...]:
    """Return the queries of a CSV table with columns x and y, and optionally name; raises `InputError`."""
    found = []
    for line, row in csv_rows(path, ("x", "y"), "name"):
        try:
            x, y = int(row["x"]), int(row["y"])
        except ValueError:
            raise InputError(
                f"Line {line} of {path} has no whole numbers for x and y.", "Give pixels."
            ) from None
        found.append(Query.point(y, x, row.get("name") or None))
    return tuple(found)
