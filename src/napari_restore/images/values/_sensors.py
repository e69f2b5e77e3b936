"""Presets of known sensors: roles of the bands, and the value of no light.

Sources: USGS Landsat Collection 2 Level-1 and Level-2 product guides (band centres; TOA reflectance
= 2e-5 DN − 0.1, surface reflectance = 2.75e-5 DN − 0.2), ESA Sentinel-2 Products Specification
Document (centres; (DN − 1000) / 10000 from processing baseline 04.00 on, DN / 10000 before), USDA
NAIP, Planet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from napari_restore.errors import BadParameter


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
    reflectance_one: float | None = None
    """The value of reflectance 1, for information."""
    reason: str = ""

    def band(self, name: str) -> SensorBand | None:
        """Return the band that a file calls `name` ("B4", "B04", "SR_B4")."""
        wanted = name.upper()
        return next((b for b in self.bands if wanted in b.names), None)

    def of_count(self, count: int) -> tuple[SensorBand, ...] | None:
        """Return the bands of a usual file with `count` of them."""
        for order in self.orders:
            if len(order) == count:
                named_bands = [self.band(name) for name in order]
                return tuple(b for b in named_bands if b is not None)
        return None


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
    SensorBand(("B6", "ST_B6", "BAND6"), "thermal", 11450),
    _band("7", "swir", 2215),
)
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
_PLANET_ORDERS = (
    tuple(b.names[0] for b in _PLANET),
    ("BLUE", "GREEN", "RED", "NIR"),
)

SENSORS: Mapping[str, Sensor] = {
    s.id: s
    for s in (
        Sensor(
            "landsat8", "Landsat 8 OLI/TIRS", _OLI, _OLI_ORDERS,
            5000.0, None, 55000.0, "Landsat Level-1: zero reflectance at DN 5000",
        ),
        Sensor(
            "landsat9", "Landsat 9 OLI-2/TIRS-2", _OLI, _OLI_ORDERS,
            5000.0, None, 55000.0, "Landsat Level-1: zero reflectance at DN 5000",
        ),
        Sensor(
            "landsat5", "Landsat 5 TM", _TM,
            (tuple(f"B{i}" for i in range(1, 8)), ("B1", "B2", "B3", "B4", "B5", "B7")),
            0.0, None, None, "Landsat 5 Level-1: DN 0",
        ),
        Sensor(
            "sentinel2", "Sentinel-2 MSI", _MSI, _MSI_ORDERS,
            0.0, None, 10000.0, "Sentinel-2 before baseline 04.00: DN 0",
        ),
        Sensor(
            "sentinel2-04.00", "Sentinel-2 MSI, baseline 04.00 and later", _MSI, _MSI_ORDERS,
            1000.0, None, 11000.0, "Sentinel-2 baseline 04.00: zero reflectance at DN 1000",
        ),
        Sensor(
            "naip", "USDA NAIP", _NAIP, (("R", "G", "B", "N"), ("R", "G", "B")),
            0.0, 255.0, None, "NAIP: 8-bit",
        ),
        Sensor(
            "planet", "PlanetScope", _PLANET, _PLANET_ORDERS,
            0.0, None, 10000.0, "PlanetScope surface reflectance: DN 0",
        ),
    )
}  # fmt: skip

_LEVEL2 = {
    "landsat8": (7272.727272727273, 43636.36363636364),
    "landsat9": (7272.727272727273, 43636.36363636364),
    "landsat5": (7272.727272727273, 43636.36363636364),
}

_PATTERNS = (
    ("landsat9", r"\bLC09_|\bLO09_|LANDSAT[_ ]9"),
    ("landsat8", r"\bLC08_|\bLO08_|\bLC8\d{13}|LANDSAT[_ ]8"),
    ("landsat5", r"\bLT05_|\bLT5\d{13}|LANDSAT[_ ]5"),
    ("sentinel2", r"\bS2[ABC]_MSI|\bT\d{2}[A-Z]{3}_\d{8}T\d{6}_|SENTINEL-2"),
    ("naip", r"\bM_\d{7}_(NE|NW|SE|SW)_\d"),
    ("planet", r"ANALYTICMS|PSSCENE|PLANETSCOPE"),
)
_REFLECTANCE = (
    r"_L2S[PR]_|_SR_B(AND)?\d"  # Landsat
    r"|MSI_?L?2A|LEVEL-2A|\bT\d{2}[A-Z]{3}_\d{8}T\d{6}_B\w{2}_[126]0M"  # Sentinel-2
    r"|\bHLS\.[LS]30\.|\b(MOD|MYD|VNP|VJ1)09|ANALYTICMS_(8B_)?SR"
    r"|SURFACE[ _]REFLECTANCE"
)

Tags = Mapping[str, Mapping[str, str]]


def sensor_of(name: str, file_name: str = "", tags: Tags | None = None) -> Sensor:
    """Return the preset `name`, with the offsets of the product in file name and tags.

    Raises `BadParameter` for an unknown name.
    """
    key = name.lower().replace(" ", "")
    if key not in SENSORS:
        raise BadParameter(
            f"There is no preset for the sensor {name!r}.", f"Known: {', '.join(SENSORS)}."
        )
    sensor = SENSORS[key]
    if key == "sentinel2" and (baseline := _baseline(file_name, tags or {})) is not None:
        return SENSORS["sentinel2-04.00"] if baseline >= 400 else sensor
    if key in _LEVEL2 and re.search(r"_L2S[PR]_|_SR_B\d", file_name.upper()):
        black, one = _LEVEL2[key]
        reason = "Landsat Level-2: zero reflectance at DN 7273"
        return replace(sensor, black=black, reflectance_one=one, reason=reason)
    return sensor


def detect_sensor(file_name: str, tags: Tags) -> str | None:
    """Return the sensor named in the file name or the tags."""
    text = _text(file_name, tags)
    return next((name for name, pattern in _PATTERNS if re.search(pattern, text)), None)


def is_reflectance_product(file_name: str, tags: Tags) -> bool:
    """Return whether name or tags indicate a surface-reflectance product."""
    text = _text(file_name, tags)
    return bool(re.search(_REFLECTANCE, text)) or '"ATMOSPHERIC_CORRECTION' in text


def _text(file_name: str, tags: Tags) -> str:
    short = file_name.replace("\\", "/").rpartition("/")[2]
    values = (f"{k}={v[:4096]}" for space in tags.values() for k, v in space.items())
    # An underscore is a word character; a space before names lets \b find their begin.
    return " ".join([short, *values]).upper()


def _baseline(file_name: str, tags: Tags) -> int | None:
    """Return Sentinel-2's processing baseline times 100, from the product's name or tags."""
    text = file_name.upper()
    if match := re.search(r"_N(\d{4})_R\d{3}", text):
        return int(match[1])
    for space in tags.values():
        if value := space.get("PROCESSING_BASELINE"):
            try:
                return round(float(value) * 100)
            except ValueError:
                return None
    return None
