"""The abstract base of everything pixels are read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]
"""Half-open box (y0, x0, y1, x1) of pixels of one level."""


class Level(NamedTuple):
    """Size of one pyramid level and of the chunks it is decoded in."""

    height: int
    width: int
    chunk_height: int
    chunk_width: int


class Source(ABC):
    """Pixels as one file (or array) stores them, decoded chunk by chunk.

    A reader is one subclass with `PRIORITY` and `supports`; the first supporting
    reader in order of priority (highest first) opens the file. Everything a
    subclass must provide stands in the mandatory section. `read_chunk` and
    `read_valid_chunk` are called from several threads at once.
    """

    PRIORITY: ClassVar[int] = 0

    # -- mandatory ---------------------------------------------------------------
    levels: tuple[Level, ...]
    """Level 0 first; only what the file itself stores."""
    bands: int
    dtype: np.dtype[Any]

    @classmethod
    @abstractmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        """Whether this reader opens `path`, judged by its first 4 KiB (empty for a folder)."""

    @abstractmethod
    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """One decoded chunk (h, w, C); chunks at the edge are cropped to the level."""

    # -- optional ----------------------------------------------------------------
    random_access: bool = True
    """False: only row bands in order are cheap (big JPEG, PNG, striped TIFF, RAW)."""
    may_be_invalid: bool = False
    """False: every pixel is valid, `read_valid_chunk` need not be asked."""

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Which of `pixels` (that chunk's) are valid, (h, w)."""
        return np.ones(pixels.shape[:2], bool)

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        """Rows y0 … y1 of level 0 over the full width; cheap when called in order."""
        raise NotImplementedError

    def read_valid_rows(self, y0: int, y1: int, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which of `pixels`, those of `read_rows`, are valid, (h, w)."""
        return np.ones(pixels.shape[:2], bool)

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release file handles."""
