"""Pyramid levels as zarr arrays in a cache folder, one file per chunk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import DiskFull
from napari_restore.images._source import Level

CHECKSUM_BYTES = 4


class DamagedStore(Exception):
    """A chunk that was written is missing, truncated or altered."""


class LevelStore:
    """Levels ``first``, ``first + 1`` … of an image, each (h, w, C), with their validity.

    Chunks are stored uncompressed, followed by a checksum. Writing a chunk
    replaces it as a whole; chunks may be written by several threads at once.
    """

    def __init__(
        self,
        path: Path,
        levels: Sequence[Level],
        bands: int,
        dtype: np.dtype[Any],
        *,
        first: int = 0,
        with_valid: bool = False,
    ) -> None:
        self.path = path
        self.levels = tuple(levels)
        self.first = first
        self._with_valid = with_valid
        self._shape_of = {"pixels": bands, "valid": 1}
        self._dtype_of = {"pixels": np.dtype(dtype), "valid": np.dtype(bool)}
        self._arrays: dict[tuple[str, int], Any] = {}
        for kind in self._kinds:
            for number in range(first, len(self.levels)):
                self._arrays[kind, number] = self._open(kind, number)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("pixels", "valid") if self._with_valid else ("pixels",)

    def _open(self, kind: str, number: int) -> Any:
        import zarr
        from zarr.codecs import Crc32cCodec

        level, depth, dtype = self.levels[number], self._shape_of[kind], self._dtype_of[kind]
        where = self.path / kind / str(number)
        shape = (level.height, level.width, depth)
        chunks = (level.chunk_height, level.chunk_width, depth)
        if (where / "zarr.json").is_file():
            try:
                array = zarr.open_array(str(where), mode="r+", zarr_format=3)
                if (array.shape, array.chunks, array.dtype) == (shape, chunks, dtype):
                    return array.with_config({"write_empty_chunks": True})
            except Exception:  # noqa: S110 - whatever is wrong with it, it is made anew
                pass
            shutil.rmtree(where, ignore_errors=True)
        return zarr.create_array(
            str(where),
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=[Crc32cCodec()],
            fill_value=0,
            # A chunk of zeros must lie on disk as well, else it reads as missing.
            config={"write_empty_chunks": True},
        )

    def write(
        self,
        level: int,
        row: int,
        column: int,
        pixels: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Write whole chunks: `pixels` (h, w, C) starting at chunk (row, column).

        Raises `DiskFull`.
        """
        top, left = row * self.levels[level].chunk_height, column * self.levels[level].chunk_width
        where = np.s_[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        with no_space_as_error(self.path):
            self._arrays["pixels", level][where] = pixels
            if self._with_valid:
                if valid is None:
                    valid = np.ones(pixels.shape[:2], bool)
                self._arrays["valid", level][where] = valid[..., None]

    def read(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """One chunk (h, w, C), cropped to the level. Raises `DamagedStore`."""
        return self._read("pixels", level, row, column)

    def read_valid(self, level: int, row: int, column: int) -> npt.NDArray[np.bool_]:
        """Which pixels of one chunk are valid, (h, w). Raises `DamagedStore`."""
        if not self._with_valid:
            level_ = self.levels[level]
            return np.ones(chunk_shape(level_, row, column), bool)
        flags: npt.NDArray[np.bool_] = self._read("valid", level, row, column)[..., 0]
        return flags

    def _read(self, kind: str, number: int, row: int, column: int) -> npt.NDArray[Any]:
        level = self.levels[number]
        top, left = row * level.chunk_height, column * level.chunk_width
        height, width = chunk_shape(level, row, column)
        # zarr reads a missing chunk as zeros; a chunk file that must exist is asked for first.
        if not self._chunk_file(kind, number, row, column).is_file():
            raise DamagedStore(f"chunk {row}, {column} of level {number} is missing")
        try:
            chunk: npt.NDArray[Any] = self._arrays[kind, number][
                top : top + height, left : left + width
            ]
        except (ValueError, OSError, RuntimeError) as error:
            raise DamagedStore(str(error)) from error
        return chunk

    def _chunk_file(self, kind: str, number: int, row: int, column: int) -> Path:
        return self.path / kind / str(number) / "c" / str(row) / str(column) / "0"

    def looks_whole(self) -> bool:
        """Whether every chunk file of every level is there in its full size."""
        for kind in self._kinds:
            depth, item = self._shape_of[kind], self._dtype_of[kind].itemsize
            for number in range(self.first, len(self.levels)):
                level = self.levels[number]
                size = level.chunk_height * level.chunk_width * depth * item + CHECKSUM_BYTES
                for row, column in chunk_grid(level):
                    try:
                        found = self._chunk_file(kind, number, row, column).stat().st_size
                    except OSError:
                        return False
                    if found != size:
                        return False
        return True


class no_space_as_error:
    """Turns a full disk into `DiskFull` naming the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if is_disk_full(error):
            raise DiskFull(
                f"No space is left in {self.path.parent}.",
                "Free some, or point NAPARI_RESTORE_CACHE or the output to another disk.",
            ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether `error` or what caused it says that the disk or the quota is used up."""
    codes = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in codes or getattr(error, "winerror", None) in (39, 112)
        ):
            return True
        if "No space left on device" in str(error):  # GDAL tells it only in words
            return True
        error = error.__cause__ or error.__context__
    return False


def chunk_shape(level: Level, row: int, column: int) -> tuple[int, int]:
    """(height, width) of a chunk after cropping to its level."""
    return (
        min(level.chunk_height, level.height - row * level.chunk_height),
        min(level.chunk_width, level.width - column * level.chunk_width),
    )


def chunk_grid(level: Level) -> list[tuple[int, int]]:
    """All (row, column) of a level's chunks."""
    rows, columns = -(-level.height // level.chunk_height), -(-level.width // level.chunk_width)
    return [(row, column) for row in range(rows) for column in range(columns)]


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(os.fspath(path)).free
