"""Pyramid levels, their chunks, and the abstract base of all sources of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]
"""Half-open box (y0, x0, y1, x1) of pixels of one level."""


CHUNK = 512
"""Side of chunks where no file decides it."""


class Level(NamedTuple):
    """Size of one pyramid level and of its chunks."""

    height: int
    width: int
    chunk_height: int
    chunk_width: int

    @classmethod
    def cut(cls, height: int, width: int, rows: int = CHUNK, columns: int = CHUNK) -> Level:
        """Return a level in chunks of so many rows and columns, which are no larger than the level."""
        return cls(height, width, min(rows, height), min(columns, width))


def chunk_box(level: Level, row: int, column: int) -> Box:
    """Return the pixels that chunk (row, column) of a level covers."""
    y0, x0 = row * level.chunk_height, column * level.chunk_width
    return (
        y0,
        x0,
        min(y0 + level.chunk_height, level.height),
        min(x0 + level.chunk_width, level.width),
    )


def chunk_shape(level: Level, row: int, column: int) -> tuple[int, int]:
    """Return (height, width) of a chunk after cropping to its level."""
    return (
        min(level.chunk_height, level.height - row * level.chunk_height),
        min(level.chunk_width, level.width - column * level.chunk_width),
    )


def chunk_grid(level: Level) -> list[tuple[int, int]]:
    """Return all (row, column) of a level's chunks."""
    rows, columns = -(-level.height // level.chunk_height), -(-level.width // level.chunk_width)
    return [(row, column) for row in range(rows) for column in range(columns)]


def chunks_of(level: Level, box: Box) -> Iterator[tuple[int, int, Box]]:
    """Yield (row, column, box of the chunk) for all chunks that touch `box`."""
    y0, x0, y1, x1 = box
    for row in range(y0 // level.chunk_height, -(-y1 // level.chunk_height)):
        for column in range(x0 // level.chunk_width, -(-x1 // level.chunk_width)):
            yield row, column, chunk_box(level, row, column)


def common_part(one: Box, other: Box) -> Box:
    """Return the part that two boxes of one level have in common; they must touch."""
    return (
        max(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
    )


def within(part: Box, box: Box) -> tuple[slice, slice]:
    """Return the rows and columns of `part` in an array of the pixels of `box`."""
    y0, x0 = box[:2]
    return slice(part[0] - y0, part[2] - y0), slice(part[1] - x0, part[3] - x0)


class Source(ABC):
    """Pixels as one file (or array) stores them, decoded chunk by chunk.

    Everything a subclass must provide is in the mandatory section. `read_chunk` and
    `read_valid_chunk` are called from several threads at once.
    """

    concurrent_reads: ClassVar[int] = 1
    """Chunks of a box that are read at once: more than one where a server takes its time for each."""

    run_bytes: ClassVar[int] = 0
    """Bytes of pixels up to which chunks that lie side by side are read together by `read_run`; 0 where
    each is read on its own."""

    served_bytes: int = 0
    """Size of a file that a server sends; 0 where it lies here."""

    # -- mandatory ---------------------------------------------------------------
    levels: tuple[Level, ...]
    """Level 0 first; only what the file itself stores."""
    bands: int
    dtype: np.dtype[Any]

    @abstractmethod
    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return one decoded chunk (h, w, C); chunks at the edge are cropped to the level."""

    # -- optional ----------------------------------------------------------------
    def read_run(self, level: int, row: int, columns: range) -> list[npt.NDArray[Any]]:
        """Return the chunks of `columns` of a row, as `read_chunk` does, read together."""
        return [self.read_chunk(level, row, column) for column in columns]

    random_access: bool = True
    """False: only row bands in order are cheap (big JPEG, PNG, striped TIFF, RAW)."""
    block_bytes: int = 0
    """Bytes of a tile, strip or picture that must be decoded as one, where it is larger than a
    chunk."""
    may_be_invalid: bool = False
    """False: every pixel is valid, `read_valid_chunk` need not be called."""

    @property
    def cached(self) -> bool:
        """Whether chunks are cached: not where they are assembled from cached ones, or in memory."""
        return True

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk has pixels; else it reads as zeros until they are there."""
        return True

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return which of `pixels` (that chunk's) are valid, (h, w)."""
        return np.ones(pixels.shape[:2], bool)

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        """Return rows y0 … y1 of level 0 over the full width; cheap when called in order."""
        raise NotImplementedError

    def read_valid_rows(self, y0: int, y1: int, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which of `pixels`, those of `read_rows`, are valid, (h, w)."""
        return np.ones(pixels.shape[:2], bool)

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release file handles."""
