"""Levels of an image as dask arrays."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._base import ImageBase

_numbers = itertools.count()
AT_ONCE = 2
"""Chunks along a side of a task where a server is asked for them: all at once.

dask reads tasks as a whole: more of them would fetch much that is not in view.
"""


class _LazyLevel:
    """One level with the array interface that dask needs: a shape, a dtype, slices."""

    ndim = 3

    def __init__(self, image: ImageBase, level: int) -> None:
        self.image, self.level = image, level
        self.shape = (*image.level_shapes[level], image.bands)
        self.dtype = image.dtype

    def __getitem__(self, where: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        (y0, y1, _), (x0, x1, _), (c0, c1, _) = (
            part.indices(size) for part, size in zip(where, self.shape, strict=True)
        )
        read = self.image.read_landed if self.image.progressive else self.image.read
        return read((y0, x0, y1, x1), self.level)[..., c0:c1]


def lazy_level(image: ImageBase, level: int) -> Any:
    """Return a dask array (h, w, C) that calls `Image.read`, one decoded chunk per task.

    Or a few, where each takes its time and not the processor: dask has a thread for each core only.

    Its name is a running number: nothing is hashed, and chunks that are written later appear when
    it is computed again.
    """
    import dask.array as da

    decoded = image.planned_levels[level]
    side = AT_ONCE if image.source.concurrent_reads > 1 else 1
    return da.from_array(  # type: ignore[no-untyped-call]
        _LazyLevel(image, level),
        chunks=(side * decoded.chunk_height, side * decoded.chunk_width, image.bands),
        name=f"napari-restore-{image.name}-{level}-{next(_numbers)}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0), image.dtype),
    )
