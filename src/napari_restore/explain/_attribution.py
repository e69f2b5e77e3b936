"""A finished attribution: map, measures, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, digest
from napari_restore.explain import _measures
from napari_restore.explain._sums import Summed
from napari_restore.images import ExportOptions, Image, write_image

LARGEST = 1 << 28
"""Values of a map up to which it is an array in memory."""
AROUND = 512
"""Pixels around the box that count as near it."""


@dataclass(frozen=True)
class Attribution:
    """Which pixels made a result: a claim about a model, which its record lets others check."""

    total: Summed = field(repr=False)
    box: Region
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: Callable[[Region], npt.NDArray[np.float32]] = field(repr=False)
    """Gives the source of a box in model range, (h, w, bands)."""
    overview: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """(h, w, bands) of the overview's pixels, where the whole-image facts were followed."""

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
        return _measures.contribution_area(np.abs(self.read(self.window).sum(axis=2)))

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

        `options` are those of `ExportOptions`. The record then names the file. Raises `BadOutput`.
        """

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            part = self.read(Region(*box))
            return np.concatenate([part.sum(axis=2, keepdims=True), part], axis=2)

        told = self.record["attribution"]
        written = write_image(
            path,
            like=self.image,
            box=self.region,
            read=read,
            shape=(*self.region.shape, 1 + self.total.bands),
            dtype=np.float32,
            options=ExportOptions(**options),
            tags={
                "NAPARI_RESTORE": "attribution: where the model looked, not why",
                "NAPARI_RESTORE_MODEL": self.record["model"]["id"],
                "NAPARI_RESTORE_METHOD": told["method"],
                "NAPARI_RESTORE_BOX": " ".join(map(str, self.box)),
            },
        )
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written


def window_of(box: Region, region: Region) -> Region:
    """See `Attribution.window`."""
    return box.expand(AROUND).intersect(region)


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
