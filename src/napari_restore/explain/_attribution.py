"""A finished attribution: map, measures, record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.explain._measures import magnitude


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

    @property
    def signed(self) -> npt.NDArray[np.float64]:
        """(h, w) sum over the bands."""
        summed: npt.NDArray[np.float64] = self.map.sum(axis=2, dtype=np.float64)
        return summed

    @property
    def magnitude(self) -> npt.NDArray[np.float64]:
        """(h, w) its absolute value."""
        return magnitude(np.moveaxis(self.map, 2, 0))
