"""Whole chunks of a zarr array written as files, without zarr's cost per chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import read_checked, write_checked
from napari_restore.engine._region import Region


def create_array(group: Any, name: str, shape: tuple[int, int, int], side: int, dtype: str) -> Any:
    """Return an array (c, y, x) in `group` whose chunks `write_chunks` can write."""
    # Light compression, and a checksum: half a chunk must not pass for pixels.
    from zarr.codecs import BloscCodec, Crc32cCodec

    bands, height, width = shape
    return group.create_array(
        name,
        shape=shape,
        chunks=(bands, min(side, height), min(side, width)),
        dtype=dtype,
        compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle"), Crc32cCodec()],
        fill_value=0,
        dimension_names=("c", "y", "x"),
        # A finished black tile differs from a missing one.
        config={"write_empty_chunks": True},
    )


def write_chunks(array: Any, folder: Path, box: Region, pixels: npt.NDArray[Any]) -> None:
    """Write `pixels` (h, w, C) to `box` of `array`, whose chunks lie in `folder`; raises `DamagedFile`."""
    # Every chunk is written atomically, and one that `box` covers in part keeps its other pixels.
    # No two threads may write the same chunk.
    from numcodecs import blosc

    _, height, width = array.shape
    bands, rows, columns = array.chunks
    for row in range(box.y0 // rows, -(-box.y1 // rows)):
        for column in range(box.x0 // columns, -(-box.x1 // columns)):
            file = folder / "c" / "0" / str(row) / str(column)
            chunk = Region.from_xywh(column * columns, row * rows, columns, rows)
            part = chunk.intersect(box)
            y, x = part.within(box)
            planes = np.moveaxis(pixels[y, x], 2, 0)
            if part != chunk:
                # Chunks at the image's edge are stored in full size, too.
                inside = chunk.intersect(Region(0, 0, height, width))
                whole = _read(file, array) if part != inside else None
                if whole is None:
                    whole = np.zeros((bands, rows, columns), array.dtype)
                y, x = part.within(chunk)
                whole[:, y, x] = planes
                planes = whole
            packed = blosc.compress(np.ascontiguousarray(planes), b"lz4", 1, blosc.NOSHUFFLE)
            write_checked(file, packed)


def _read(file: Path, array: Any) -> npt.NDArray[Any] | None:
    """Return a chunk as it was written; None if there is none yet. Raises `DamagedFile`."""
    from numcodecs import blosc

    try:
        packed = read_checked(file)
    except FileNotFoundError:
        return None
    planes = np.frombuffer(blosc.decompress(packed), array.dtype)
    return planes.reshape(array.chunks).copy()
