"""What a preset of a sensor says: roles of its bands, and the value of no light."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

NamedBy = Literal["user", "file", "names of the bands", "name of the file", "tags"]
"""Who says that it is this sensor: the user by id or by a file of presets, else what the image has."""

LIGHT = (
    "red", "green", "blue", "nir", "rededge", "swir", "coastal", "cirrus", "thermal", "pan", "gray",
)  # fmt: skip
COLOURS = ("red", "green", "blue")
AUXILIARY = (
    "class", "label", "mask", "quality", "probability", "angle", "height", "aerosol", "watervapour",
    "index",
)  # fmt: skip
"""Roles of bands that show no light; several bands may have the same one."""
ROLES = (*LIGHT, "alpha", *AUXILIARY)


@dataclass(frozen=True)
class SensorBand:
    """One band: its names in files, its role, its centre in nm."""

    names: tuple[str, ...]
    role: str | None
    wavelength: float | None = None


@dataclass(frozen=True)
class Sensor:
    """A sensor's preset.

    `black` is the value of zero reflectance; `white` the value of the largest, or None where the
    scene's own high percentile serves better: reflectance 1 would leave hazy scenes, which rarely
    pass 0.4, in the darkest third of the range.
    """

    id: str
    title: str
    bands: tuple[SensorBand, ...]
    orders: tuple[tuple[str, ...], ...]
    """Band names of the usual files, by their number of bands."""
    black: float = 0.0
    white: float | None = None
    reason: str = ""
    """Why `black` is the zero; "" where it is not known to be."""
    named_by: NamedBy = "user"
    per_unit: float | None = None
    """Reflectance of a unit of integers above `black`; None where it is not known."""

    @property
    def is_given(self) -> bool:
        """Whether the user has named it; else it is what names in the file say."""
        return self.named_by in ("user", "file")

    def band(self, name: str) -> SensorBand | None:
        """Return the band that a file calls `name` ("B4", "B04", "SR_B4")."""
        wanted = name.upper()
        return next((b for b in self.bands if wanted in b.names), None)

    def zero(self, name: str | None) -> float:
        """Return the value of zero reflectance of the band that a file calls `name`.

        Temperatures (``ST_B10``, and files ``LC08_L1TP_…_B10``) and pictures (``TCI``) have none.
        """
        return 0.0 if name and re.search(_NO_REFLECTANCE, name.strip().upper()) else self.black

    def of_count(self, count: int) -> tuple[SensorBand, ...] | None:
        """Return the bands of a usual file with `count` of them."""
        if self.named_by == "file":
            return self.bands if len(self.bands) == count else None
        for order in self.orders:
            if len(order) == count:
                named_bands = [self.band(name) for name in order]
                return tuple(b for b in named_bands if b is not None)
        return None


_NO_REFLECTANCE = r"(?:^|_)(ST_|TCI(_|\b))|^L[CT]0[89]_.*_B1[01]\b"
