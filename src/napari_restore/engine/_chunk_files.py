"""Writes whole chunks of a zarr array as files, without zarr's cost per chunk."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region


def create_array(group: Any, name: str, shape: tuple[int, int, int], side: int, dtype: str) -> Any:
    """An array (c, y, x) in `group` whose chunks `write_chunks` can write.

    Light compression, and a checksum: half a chunk must not pass for pixels.
    """
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
        # A finished black tile is not the same as none.
        config={"write_empty_chunks": True},
    )


def write_chunks(array: Any, folder: Path, box: Region, pixels: npt.NDArray[Any]) -> None:
    """Write `pixels` (h, w, C) to `box` of `array`, whose chunks lie in `folder`.

    Chunks that `box` covers become files at once, each whole or not there; those it
    covers in part go through zarr. To be called by one thread.
    """
    _, height, width = array.shape
    _, rows, columns = array.chunks
    for row in range(box.y0 // rows, -(-box.y1 // rows)):
        for column in range(box.x0 // columns, -(-box.x1 // columns)):
            chunk = Region.from_xywh(column * columns, row * rows, columns, rows)
            inside = chunk.intersect(Region(0, 0, height, width))
            part = inside.intersect(box)
            y, x = part.shift(-box.y0, -box.x0).slices
            planes = np.moveaxis(pixels[y, x], 2, 0)
            if part == inside:
                _write(folder / "c" / "0" / str(row) / str(column), array, planes)
            else:
                y, x = part.slices
                array[:, y, x] = planes


def _write(file: Path, array: Any, planes: npt.NDArray[Any]) -> None:
    import google_crc32c
    from numcodecs import blosc

    whole = planes
    if planes.shape != array.chunks:
        # Chunks at the edge are stored in full size.
        whole = np.zeros(array.chunks, array.dtype)
        whole[:, : planes.shape[1], : planes.shape[2]] = planes
    packed = blosc.compress(np.ascontiguousarray(whole), b"lz4", 1, blosc.NOSHUFFLE)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.new")
    with open(beside, "wb") as new:
        new.write(packed)
        new.write(struct.pack("<I", google_crc32c.value(packed)))
    os.replace(beside, file)
