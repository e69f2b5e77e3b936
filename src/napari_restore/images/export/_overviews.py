"""Overviews of a TIFF during writing: our own means, or GDAL's where rows are too long."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._source import Level
from napari_restore.images.export._job import BLOCK, BLOCK_BYTES, Block, DamagedOutput, ExportJob
from napari_restore.images.export._tiff_levels import append_overviews
from napari_restore.images.files._handles import environment, open_for_writing
from napari_restore.images.levels._reduce import level_sizes
from napari_restore.images.levels._row_pyramid import RowPyramid
from napari_restore.images.values._validity import default_fill

SMALLEST = 512


def overview_sizes(job: ExportJob) -> list[tuple[int, int]]:
    """Return (height, width) of the overviews that `job` requests, the finest first."""
    if not job.options.overviews:
        return []
    return level_sizes(job.height, job.width, SMALLEST)[1:]


class OverviewFiles:
    """One TIFF per overview, filled while level 0 is written, joined to it at the end.

    Each pixel is the mean of the valid ones below it, as everywhere in this package.
    """

    def __init__(self, job: ExportJob, path: Path, creation: dict[str, Any]) -> None:
        self._job = job
        sizes = overview_sizes(job)
        self.paths = [
            path.with_name(f"{path.stem}.level{number}.tif") for number in range(1, len(sizes) + 1)
        ]
        self._creation = {k: v for k, v in creation.items() if k not in ("crs", "transform")}
        levels = [Level(h, w, BLOCK, BLOCK) for h, w in [(job.height, job.width), *sizes]]
        self._levels = levels
        self._pyramid = RowPyramid(
            levels, self._write, fill=default_fill(job.dtype, job.nodata), nodata=job.nodata
        )
        self._datasets: list[Any] = []
        self._stack = ExitStack()

    @classmethod
    def suit(cls, job: ExportJob) -> bool:
        """Return whether a row of tiles over the full width fits in memory."""
        row = BLOCK * job.width * job.bands * job.dtype.itemsize
        return bool(overview_sizes(job)) and row <= BLOCK_BYTES

    @property
    def needs_validity(self) -> bool:
        """Whether blocks must come with their validity."""
        return self._job.source_bands is not None and self._job.like.may_be_invalid

    def __enter__(self) -> OverviewFiles:
        for path, level in zip(self.paths, self._levels[1:], strict=True):
            size = {"height": level.height, "width": level.width}
            dataset = open_for_writing(path, **{**self._creation, **size})
            self._datasets.append(self._stack.enter_context(dataset))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def add(self, block: Block) -> None:
        """Add a row of blocks over the full width."""
        valid = block.valid
        if valid is None and block.pixels.dtype.kind == "f":
            valid = np.isfinite(block.pixels).all(axis=2)
        self._pyramid.add(block.y, block.pixels, valid)

    def join(self, path: Path) -> None:
        """Append the finished levels to the finished TIFF `path`. Raises `DamagedOutput`."""
        try:
            append_overviews(path, self.paths)
        except (struct.error, ValueError) as error:
            # GDAL's threads may fail to write without an error.
            raise DamagedOutput("a directory is missing") from error

    def remove(self) -> None:
        """Delete the files of single levels."""
        for path in self.paths:
            for left in (path, path.with_name(path.name + ".aux.xml")):
                left.unlink(missing_ok=True)

    def _write(
        self,
        level: int,
        top: int,
        pixels: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
    ) -> None:
        if level == 0:
            return
        dataset = self._datasets[level - 1]
        window = ((top, top + pixels.shape[0]), (0, pixels.shape[1]))
        dataset.write(pixels.transpose(2, 0, 1), window=window)
        if self._job.writes_mask:
            flags = np.ones(pixels.shape[:2], bool) if valid is None else valid
            dataset.write_mask(flags, window=window)


def add_overviews(job: ExportJob, path: Path, interleave: str) -> None:
    """Add overviews made by GDAL to the finished TIFF `path`."""
    from rasterio.enums import Resampling

    # GDAL's mean leaves out nodata, masked and transparent pixels, but not NaN beside
    # another nodata value: one such pixel would empty its whole neighbourhood.
    nan_spreads = not job.finite and not (job.nodata is not None and np.isnan(job.nodata))
    how = Resampling.nearest if nan_spreads else Resampling.average
    level = str(job.options.level or 1)
    options = {
        "GDAL_NUM_THREADS": str(job.options.workers),
        "GDAL_TIFF_INTERNAL_MASK": True,
        "GDAL_TIFF_OVR_BLOCKSIZE": str(BLOCK),
        "INTERLEAVE_OVERVIEW": interleave.upper(),
        "ZLEVEL_OVERVIEW": level,
        "ZSTD_LEVEL_OVERVIEW": level,
    }
    with environment(**options), open_for_writing(path, "r+") as dataset:
        steps = range(1, len(overview_sizes(job)) + 1)
        dataset.build_overviews([2**step for step in steps], how)
