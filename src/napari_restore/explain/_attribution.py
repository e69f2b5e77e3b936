"""A finished attribution: map, measures, record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, digest
from napari_restore.explain._measures import magnitude
from napari_restore.images import ExportOptions, Image, write_image


@dataclass(frozen=True)
class Attribution:
    """Which pixels made a result: a claim about a model, which its record lets others check."""

    map: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands) over `region`: adds up to what the record calls ``sum``. In units of the
    objective, per value of a pixel."""
    region: Region
    """Outside of it no pixel can have had a share, or none was looked at."""
    box: Region
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands) the source over `region`, in model range."""
    overview: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """(h, w, bands) of the overview's pixels, where the whole-image facts were followed."""

    @property
    def signed(self) -> npt.NDArray[np.float64]:
        """(h, w) sum over the bands."""
        summed: npt.NDArray[np.float64] = self.map.sum(axis=2, dtype=np.float64)
        return summed

    @property
    def magnitude(self) -> npt.NDArray[np.float64]:
        """(h, w) its absolute value."""
        return magnitude(np.moveaxis(self.map, 2, 0))

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write a float32 raster of the region, on the image's map: the sum, then every band.

        `options` are those of `ExportOptions`. The record then names the file. Raises `BadOutput`.
        """
        bands = self.map.shape[2]

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            rows, columns = Region(*box).shift(-self.region.y0, -self.region.x0).slices
            part = self.map[rows, columns]
            return np.concatenate([part.sum(axis=2, keepdims=True), part], axis=2)

        told = self.record["attribution"]
        written = write_image(
            path,
            like=self.image,
            box=self.region,
            read=read,
            shape=(*self.region.shape, 1 + bands),
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
