"""A finished attribution: map, measures, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, digest, peak_in
from napari_restore.explain import _measures
from napari_restore.explain.sums._sums import Summed
from napari_restore.images import ExportOptions, Image, write_image

LARGEST = 1 << 28
"""Values of a map up to which it is an array in memory."""
BLOCKS = 96
"""Blocks along the longer side of an overview in which its shares are shown."""
AROUND = 512
"""Pixels around the box that count as near it."""


@dataclass(frozen=True)
class Overview:
    """Shares of the overview's pixels, from which the whole-image statistics were drawn."""

    values: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands)."""
    step: int
    """Pixels of the image along a side of one of these."""
    corner: tuple[int, int]
    """(y, x) in the image of the first one."""

    def blocks(self) -> tuple[npt.NDArray[np.float64], int]:
        """(h, w) sums over bands and square blocks, at most `BLOCKS` along a side, and that of a block.

        In pixels of the image. Single pixels are too small to be seen, and shares add up.
        """
        height, width = self.values.shape[:2]
        side = -(-max(height, width) // BLOCKS)
        rows, columns = np.arange(0, height, side), np.arange(0, width, side)
        signed = self.values.sum(axis=2, dtype=np.float64)
        found: npt.NDArray[np.float64] = np.add.reduceat(
            np.add.reduceat(signed, rows, axis=0), columns, axis=1
        )
        return found, side * self.step


@dataclass(frozen=True)
class Attribution:
    """Which pixels made a result: a claim about a model, which its record lets others check."""

    total: Summed = field(repr=False)
    box: Region
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: Callable[[Region], npt.NDArray[np.float32]] = field(repr=False)
    """Gives the source of a box in model range, (h, w, bands)."""
    overview: Overview | None = field(default=None, repr=False)
    """Where the gradient goes through the context."""

    def __repr__(self) -> str:
        told = self.record["attribution"]
        gap = (told.get("completeness") or {}).get("relative_gap")
        shape = (*self.region.shape, self.total.bands)
        complete = "" if gap is None else f", completeness gap {100 * gap:.2g} %"
        return (
            f"<Attribution {self.record['model']['id']!r} on {self.image.name!r}: "
            f"{told['method']}, {self.box}, map {shape}{complete}>"
        )

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """The map (h, w, bands), as ``np.asarray`` takes it."""
        if copy is False:
            raise ValueError("A map is always read anew: copy=False is not possible.")
        values = np.asarray(self.map)
        return values if dtype is None else values.astype(dtype, copy=False)

    @property
    def region(self) -> Region:
        """Outside of it no pixel can have had a share."""
        return self.total.region

    @property
    def window(self) -> Region:
        """What of the region lies at most `AROUND` pixels from the box."""
        return window_of(self.box, self.region)

    def contribution_area(self) -> npt.NDArray[np.float64]:
        """(h, w) over `window`: density of the magnitude, its largest value 1 (LAM)."""
        near = np.abs(self.read(self.window).sum(axis=2))
        return np.asarray(_measures.contribution_area(near), np.float64)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """(h, w, bands) of a box within the region, as in `map`."""
        return np.moveaxis(self.total.read(box), 0, 2).astype(np.float32)

    @property
    def map(self) -> npt.NDArray[np.float32]:
        """(h, w, bands) over `region`: adds up to what the record calls ``sum``.

        In units of the objective. A dask array where it is too large for memory.
        """
        if self.region.pixels * self.total.bands <= LARGEST:
            return self.read(self.region)
        found: npt.NDArray[np.float32] = _lazy(self)
        return found

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write a float32 raster of the region, on the image's map: the sum, then every band.

        `options` are those of `ExportOptions`. The record then names the file. Shares of an overview
        go into a second one, whose name ends in ``_overview``. Raises `BadOutput`.
        """
        with peak_in(self.record):
            written = self._save(Path(path), options)
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written

    def _save(self, path: Path, options: dict[str, Any]) -> Path:
        if self.overview is not None:
            self._save_overview(self.overview, overview_path(path), options)

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            return _with_sum(self.read(Region(*box)))

        try:
            written = self._write(path, self.image, self.region, read, options)
        except BaseException:
            # Where it lies on disk, the same question finds it there.
            self.total.deliver(False)
            raise
        self.total.deliver()
        return written

    def _save_overview(self, overview: Overview, path: Path, options: dict[str, Any]) -> None:
        step = overview.step
        # The level of the image that has its pixels, for their place on the map.
        like = self.image.level_view(step.bit_length() - 1)
        (y, x), (height, width) = overview.corner, overview.values.shape[:2]
        region = Region(y // step, x // step, y // step + height, x // step + width)

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            return _with_sum(overview.values[Region(*box).within(region)])

        self._write(path, like, region, read, options)

    def _write(
        self,
        path: str | Path,
        like: Image,
        region: Region,
        read: Callable[[tuple[int, int, int, int]], npt.NDArray[np.float32]],
        options: dict[str, Any],
    ) -> Path:
        return write_image(
            path,
            like=like,
            box=region,
            read=read,
            shape=(*region.shape, 1 + self.total.bands),
            dtype=np.float32,
            options=ExportOptions(**options),
            tags={
                "NAPARI_RESTORE": "attribution: where the model looked, not why",
                "NAPARI_RESTORE_MODEL": self.record["model"]["id"],
                "NAPARI_RESTORE_METHOD": self.record["attribution"]["method"],
                "NAPARI_RESTORE_BOX": " ".join(map(str, self.box)),
            },
        )


def window_of(box: Region, region: Region) -> Region:
    """See `Attribution.window`."""
    return box.expand(AROUND).intersect(region)


def overview_path(path: Path) -> Path:
    """Where the shares of the overview go that belong to the map at `path`."""
    return path.with_name(f"{path.stem}_overview{path.suffix}")


def _with_sum(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate([part.sum(axis=2, keepdims=True), part], axis=2)


def _lazy(found: Attribution) -> Any:
    """The map as a dask array, strip by strip."""
    import dask
    import dask.array

    array: Any = dask.array
    delayed: Any = dask.delayed  # type: ignore[attr-defined]
    bands = found.total.bands
    strips = [
        array.from_delayed(delayed(found.read)(strip), (*strip.shape, bands), np.float32)
        for strip in found.total.strips()
    ]
    return array.concatenate(strips, axis=0)
