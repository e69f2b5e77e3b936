"""Presets of known sensors: roles of the bands, and the value of no light.

Sources: USGS Landsat Collection 2 Level-1 and Level-2 product guides (band centres; TOA reflectance
= 2e-5 DN − 0.1, surface reflectance = 2.75e-5 DN − 0.2), ESA Sentinel-2 Products Specification
Document (centres; (DN − 1000) / 10000 from processing baseline 04.00 on, of 2022-01-25, DN / 10000
before), USDA NAIP, Planet, HLS user guide 2.0, MODIS MOD09 user guide, Airbus SPOT 6/7 and Pléiades
imagery user guides, DigitalGlobe WorldView-2 and -3 data sheets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def _band(number: str, role: str | None, wavelength: float | None = None) -> SensorBand:
    names = [f"B{number}", f"SR_B{number}", f"BAND{number}", f"BAND {number}", f"BAND_{number}"]
    if number.isdigit() and len(number) == 1:
        names.append(f"B0{number}")
    return SensorBand(tuple(names), role, wavelength)


_OLI = (
    _band("1", "coastal", 443),
    _band("2", "blue", 482),
    _band("3", "green", 561),
    _band("4", "red", 655),
    _band("5", "nir", 865),
    _band("6", "swir", 1609),
    _band("7", "swir", 2201),
    _band("8", "pan", 590),
    _band("9", "cirrus", 1373),
    SensorBand(("B10", "ST_B10", "BAND10"), "thermal", 10895),
    SensorBand(("B11", "ST_B11", "BAND11"), "thermal", 12005),
)
_OLI_ORDERS = (
    tuple(f"B{i}" for i in range(1, 12)),
    tuple(f"B{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)),
    tuple(f"B{i}" for i in range(1, 8)),
    tuple(f"B{i}" for i in range(2, 8)),
)
_TM = (
    _band("1", "blue", 485),
    _band("2", "green", 560),
    _band("3", "red", 660),
    _band("4", "nir", 830),
    _band("5", "swir", 1650),
    SensorBand(("B6", "B6_VCID_1", "B6_VCID_2", "ST_B6", "BAND6"), "thermal", 11450),
    _band("7", "swir", 2215),
)
_ETM = (*_TM, SensorBand(("B8", "BAND8", "BAND 8", "BAND_8"), "pan", 710))
_MSI = (
    _band("1", "coastal", 443),
    _band("2", "blue", 490),
    _band("3", "green", 560),
    _band("4", "red", 665),
    _band("5", "rededge", 705),
    _band("6", "rededge", 740),
    _band("7", "rededge", 783),
    _band("8", "nir", 842),
    SensorBand(("B8A",), "nir", 865),
    _band("9", None, 945),
    _band("10", "cirrus", 1375),
    _band("11", "swir", 1610),
    _band("12", "swir", 2190),
)
_TM_ORDERS = (tuple(f"B{i}" for i in range(1, 8)), ("B1", "B2", "B3", "B4", "B5", "B7"))
_MSI_NAMES = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_MSI_ORDERS = (
    _MSI_NAMES,
    tuple(n for n in _MSI_NAMES if n != "B10"),
    tuple(n for n in _MSI_NAMES if n not in ("B1", "B9", "B10")),
    ("B2", "B3", "B4", "B8", "B11", "B12"),
    ("B2", "B3", "B4", "B8"),
)
_NAIP = (
    SensorBand(("R",), "red", 650),
    SensorBand(("G",), "green", 560),
    SensorBand(("B",), "blue", 460),
    SensorBand(("N",), "nir", 850),
)
_PLANET = (
    SensorBand(("COASTAL_BLUE",), "coastal", 443),
    SensorBand(("BLUE",), "blue", 490),
    SensorBand(("GREEN_I",), None, 531),
    SensorBand(("GREEN",), "green", 565),
    SensorBand(("YELLOW",), None, 610),
    SensorBand(("RED",), "red", 665),
    SensorBand(("REDEDGE", "RED_EDGE"), "rededge", 705),
    SensorBand(("NIR",), "nir", 865),
)
_MODIS = tuple(
    SensorBand((f"SUR_REFL_B0{n}", f"SUR_REFL_B0{n}_1"), role, wavelength)
    for n, role, wavelength in (
        (1, "red", 645), (2, "nir", 859), (3, "blue", 469), (4, "green", 555), (5, "swir", 1240),
        (6, "swir", 1640), (7, "swir", 2130),
    )
)  # fmt: skip
_FOUR = ("blue", "green", "red", "nir")
_SPOT, _PLEIADES = (
    tuple(SensorBand((role.upper(),), role, at) for role, at in zip(_FOUR, waves, strict=True))
    for waves in ((485, 560, 660, 825), (490, 560, 650, 840))
)
_WORLDVIEW = (
    SensorBand(("COASTAL", "C"), "coastal", 427),
    SensorBand(("BLUE", "B"), "blue", 478),
    SensorBand(("GREEN", "G"), "green", 546),
    SensorBand(("YELLOW", "Y"), None, 608),
    SensorBand(("RED", "R"), "red", 659),
    SensorBand(("REDEDGE", "RED EDGE", "RED_EDGE", "RE"), "rededge", 724),
    SensorBand(("NIR1", "NIR", "N"), "nir", 833),
    SensorBand(("NIR2", "N2"), "nir", 949),
)
_WORLDVIEW_ORDERS = (
    ("COASTAL", "BLUE", "GREEN", "YELLOW", "RED", "REDEDGE", "NIR1", "NIR2"),
    ("BLUE", "GREEN", "RED", "NIR1"),
)
_BLUE_FIRST = (("BLUE", "GREEN", "RED", "NIR"),)
_PLANET_ORDERS = (
    tuple(b.names[0] for b in _PLANET),
    ("BLUE", "GREEN", "RED", "NIR"),
)

SENSORS: Mapping[str, Sensor] = {
    s.id: s
    for s in (
        *(
            Sensor(
                f"landsat{number}", f"Landsat {number} {name}", _OLI, _OLI_ORDERS,
                5000.0, None, "Landsat Level-1: zero reflectance at DN 5000", per_unit=2e-5,
            )
            for number, name in ((8, "OLI/TIRS"), (9, "OLI-2/TIRS-2"))
        ),
        *(
            Sensor(
                f"landsat{number}", f"Landsat {number} {name}", bands, _TM_ORDERS,
                0.0, None, f"Landsat {number} Level-1: DN 0",
            )
            for number, name, bands in ((7, "ETM+", _ETM), (5, "TM", _TM), (4, "TM", _TM))
        ),
        Sensor(
            "sentinel2", "Sentinel-2 MSI", _MSI, _MSI_ORDERS,
            0.0, None, "Sentinel-2 before baseline 04.00: DN 0", per_unit=1e-4,
        ),
        Sensor(
            "sentinel2-04.00", "Sentinel-2 MSI, baseline 04.00 and later", _MSI, _MSI_ORDERS,
            1000.0, None, "Sentinel-2 baseline 04.00: zero reflectance at DN 1000", per_unit=1e-4,
        ),
        Sensor(
            "naip", "USDA NAIP", _NAIP, (("R", "G", "B", "N"), ("R", "G", "B")),
            0.0, 255.0, "NAIP: 8-bit",
        ),
        Sensor(
            "planet", "PlanetScope", _PLANET, _PLANET_ORDERS,
            0.0, None, "PlanetScope surface reflectance: DN 0",
        ),
        Sensor("hls-l30", "HLS L30 (Landsat)", _OLI, (), 0.0, None, "HLS: DN 0", per_unit=1e-4),
        Sensor("hls-s30", "HLS S30 (Sentinel-2)", _MSI, (), 0.0, None, "HLS: DN 0", per_unit=1e-4),
        Sensor(
            "modis", "MODIS surface reflectance", _MODIS, (tuple(b.names[0] for b in _MODIS),),
            0.0, None, "MOD09: DN 0", per_unit=1e-4,
        ),
        Sensor("spot", "SPOT 6 and 7", _SPOT, _BLUE_FIRST, 0.0, None, "SPOT 6 and 7: DN 0"),
        Sensor("pleiades", "Pléiades", _PLEIADES, _BLUE_FIRST, 0.0, None, "Pléiades: DN 0"),
        Sensor(
            "worldview", "WorldView-2 and -3", _WORLDVIEW, _WORLDVIEW_ORDERS,
            0.0, None, "WorldView: DN 0",
        ),
    )
}  # fmt: skip
