"""A box of level-0 pixels."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple


class Region(NamedTuple):
    """A half-open box of level-0 pixels, origin top left: ``Region(y0, x0, y1, x1)``.

    ``Region.from_xywh(x, y, width, height)`` takes the order of the command line, where
    ``--srcwin`` and ``--box`` are X Y WIDTH HEIGHT. All Python functions take boxes as `Region`;
    records contain the list [y0, x0, y1, x1].

    Parameters
    ----------
    y0, x0
        Row and column of the first pixel.
    y1, x1
        Row and column behind the last one.
    """

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def from_xywh(cls, x: int, y: int, width: int, height: int) -> Region:
        """Return the region of column, row, width, height in pixels, as GDAL's ``-srcwin``.

        Parameters
        ----------
        x, y
            Column and row of the first pixel.
        width, height
            Size in pixels.

        Returns
        -------
        Region
            Its box.
        """
        return cls(y, x, y + height, x + width)

    @classmethod
    def centred(cls, y: float, x: float, height: int, width: int | None = None) -> Region:
        """Return the box of `height` × `width` pixels around a point.

        An odd side has the point in its middle pixel.

        Parameters
        ----------
        y, x
            Row and column in pixels, counted from the corner of the first, whose centre is at 0.5.
        height
            Rows.
        width
            Columns; None: as many as rows.

        Returns
        -------
        Region
            The box.
        """
        width = height if width is None else width
        y0, x0 = round(y - height / 2 + 1e-9), round(x - width / 2 + 1e-9)
        return cls(y0, x0, y0 + height, x0 + width)

    @property
    def height(self) -> int:
        """Rows of pixels; negative where the edges are swapped."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns of pixels; negative where the edges are swapped."""
        return self.x1 - self.x0

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """Number of pixels; 0 where it is empty."""
        return max(0, self.height) * max(0, self.width)

    @property
    def is_empty(self) -> bool:
        """Whether it contains no pixel."""
        return self.height <= 0 or self.width <= 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns, for an array whose first pixel is that of the image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersect(self, other: Region) -> Region:
        """Return the box that both contain.

        Parameters
        ----------
        other
            Another box.

        Returns
        -------
        Region
            The common part; check `is_empty`.
        """
        return Region(
            max(self.y0, other.y0),
            max(self.x0, other.x0),
            min(self.y1, other.y1),
            min(self.x1, other.x1),
        )

    def expand(self, margin: int) -> Region:
        """Return the box grown by `margin` pixels on every side.

        Parameters
        ----------
        margin
            Pixels; negative ones shrink the box.

        Returns
        -------
        Region
            The larger box, which may reach beyond the image.
        """
        return Region(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def union(self, other: Region) -> Region:
        """Return the smallest box that contains both.

        Parameters
        ----------
        other
            Another box.

        Returns
        -------
        Region
            The box around both.
        """
        return Region(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )

    def shift(self, dy: int, dx: int) -> Region:
        """Return the box moved by whole pixels.

        Parameters
        ----------
        dy, dx
            Rows down and columns to the right.

        Returns
        -------
        Region
            A box of the same size.
        """
        return Region(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Return rows and columns of this box in an array that covers `outer`.

        Parameters
        ----------
        outer
            The box that the array covers.

        Returns
        -------
        tuple of slice
            Rows and columns, which index the array where `outer` contains this box.
        """
        return self.shift(-outer.y0, -outer.x0).slices

    def scale(self, ratio: Fraction) -> Region:
        """Return the box in pixels of which there are `ratio` times as many, grown to whole ones.

        Parameters
        ----------
        ratio
            Pixels along one of the present ones.

        Returns
        -------
        Region
            The box in the new pixels.
        """
        y0, x0 = (math.floor(edge * ratio) for edge in self[:2])
        y1, x1 = (math.ceil(edge * ratio) for edge in self[2:])
        return Region(y0, x0, y1, x1)

    def align(self, multiple: int) -> Region:
        """Return the box grown outwards until every edge is a multiple of `multiple`.

        Parameters
        ----------
        multiple
            Pixels, at least 1.

        Returns
        -------
        Region
            The box around this one.
        """
        m = multiple
        return Region(
            self.y0 // m * m, self.x0 // m * m, -(-self.y1 // m) * m, -(-self.x1 // m) * m
        )
