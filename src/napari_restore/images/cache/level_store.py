"""Pyramid levels as zarr arrays in a cache folder, one file per chunk."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import CHECKSUM_BYTES, DamagedFile, read_checked, write_checked
from napari_restore.images._source import Source, chunk_grid, chunk_shape
from napari_restore.images.cache.folder import no_space_as_error


class DamagedStore(Exception):
    """A chunk that was written is missing, truncated or altered."""


class LevelStore:
    """Levels ``first``, ``first + 1`` … of an image, each (h, w, C), with their validity."""

    # Chunks are stored uncompressed, followed by a checksum: zarr arrays, but zarr only writes
    # their metadata, as its access to single chunks is slow. Writing a chunk replaces it as a
    # whole; chunks may be written by several threads at once.
    def __init__(self, path: Path, source: Source, first: int) -> None:
        self.path, self.levels, self.first = path, source.levels, first
        self._kinds = ("pixels", "valid") if source.may_be_invalid else ("pixels",)
        self._depth_of = {"pixels": source.bands, "valid": 1}
        self._dtype_of = {"pixels": source.dtype.newbyteorder("<"), "valid": np.dtype(bool)}
        for kind in self._kinds:
            for number in range(first, len(self.levels)):
                self._declare(kind, number)

    def _declare(self, kind: str, number: int) -> None:
        """Create the array's folder and metadata; one of another kind is removed."""
        import zarr
        from zarr.codecs import Crc32cCodec

        where = self.path / kind / str(number)
        shape = (*self.levels[number][:2], self._depth_of[kind])
        chunks, dtype = self._chunk_shape(kind, number), self._dtype_of[kind]
        if (where / "zarr.json").is_file():
            try:
                array = zarr.open_array(str(where), mode="r", zarr_format=3)
                if (array.shape, array.chunks, array.dtype) == (shape, chunks, dtype):
                    return
            except Exception:  # noqa: S110 - whatever is wrong with it, it is created again
                pass
            shutil.rmtree(where, ignore_errors=True)
        zarr.create_array(
            str(where),
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=[Crc32cCodec()],
            fill_value=0,
            # A folder per chunk, zarr's default, takes longer to create than the chunk itself.
            chunk_key_encoding={"name": "default", "separator": "."},
        )

    def write(
        self,
        level: int,
        row: int,
        column: int,
        pixels: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Write whole chunks: `pixels` (h, w, C) starting at chunk (row, column); raises `DiskFull`."""
        with no_space_as_error(self.path):
            self._write("pixels", level, row, column, pixels)
            if valid is not None:
                self._write("valid", level, row, column, valid[..., None])

    def read(self, kind: str, number: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return the "pixels" (h, w, C) or "valid" (h, w, 1) of a chunk, cropped; raises `DamagedStore`."""
        shape, dtype = self._chunk_shape(kind, number), self._dtype_of[kind]
        file = self._chunk_file(kind, number, row, column)
        try:
            content = read_checked(file)
        except (OSError, DamagedFile) as error:
            raise DamagedStore(f"{file} is missing or was altered") from error
        if content.size != math.prod(shape) * dtype.itemsize:
            raise DamagedStore(f"{file} has another size")
        height, width = chunk_shape(self.levels[number], row, column)
        chunk = content.view(dtype).reshape(shape)[:height, :width]
        # A copy where it is cropped, so that the rest does not stay in memory unused.
        return np.ascontiguousarray(chunk, dtype.newbyteorder("="))

    def _write(
        self, kind: str, number: int, row: int, column: int, values: npt.NDArray[Any]
    ) -> None:
        shape, dtype = self._chunk_shape(kind, number), self._dtype_of[kind]
        for i, top in enumerate(range(0, values.shape[0], shape[0])):
            for j, left in enumerate(range(0, values.shape[1], shape[1])):
                part = values[top : top + shape[0], left : left + shape[1]]
                if part.shape == shape:
                    chunk = np.ascontiguousarray(part, dtype)
                else:
                    chunk = np.zeros(shape, dtype)
                    chunk[: part.shape[0], : part.shape[1]] = part
                write_checked(
                    self._chunk_file(kind, number, row + i, column + j),
                    chunk.reshape(-1).view(np.uint8),
                )

    def _chunk_shape(self, kind: str, number: int) -> tuple[int, int, int]:
        level = self.levels[number]
        return level.chunk_height, level.chunk_width, self._depth_of[kind]

    def _chunk_file(self, kind: str, number: int, row: int, column: int) -> Path:
        return self.path / kind / str(number) / f"c.{row}.{column}.0"

    def is_complete(self) -> bool:
        """Return whether every chunk file of every level exists in its full size."""
        for kind in self._kinds:
            item = self._dtype_of[kind].itemsize
            for number in range(self.first, len(self.levels)):
                size = math.prod(self._chunk_shape(kind, number)) * item + CHECKSUM_BYTES
                for cell in chunk_grid(self.levels[number]):
                    file = self._chunk_file(kind, number, *cell)
                    if not file.is_file() or file.stat().st_size != size:
                        return False
        return True
