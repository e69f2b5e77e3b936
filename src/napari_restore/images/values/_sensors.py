"""Presets of known sensors: roles of the bands, and the value of no light.

A preset's bands are those that names say. Where only names of bands are known ("SR_B4", "B8A"), they
are those of every sensor that has bands of these names; what two sensors mean differently by a name
stays unknown. The order of a file's bands counts where the user names the sensor, or where roles that
are known agree with it.

Sources: USGS Landsat Collection 2 Level-1 and Level-2 product guides (band centres; TOA reflectance
= 2e-5 DN − 0.1, surface reflectance = 2.75e-5 DN − 0.2), ESA Sentinel-2 Products Specification
Document (centres; (DN − 1000) / 10000 from processing baseline 04.00 on, of 2022-01-25, DN / 10000
before), USDA NAIP, Planet, HLS user guide 2.0, MODIS MOD09 user guide, Airbus SPOT 6/7 and Pléiades
imagery user guides, DigitalGlobe WorldView-2 and -3 data sheets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    reason: str = ""
    """Why `black` is the zero; "" where it is not known to be."""
    is_given: bool = True
    """Whether the user has named it; else it is what names in the file say."""

    def band(self, name: str) -> SensorBand | None:
        """Return the band that a file calls `name` ("B4", "B04", "SR_B4")."""
        wanted = name.upper()
        return next((b for b in self.bands if wanted in b.names), None)

    def zero(self, name: str | None) -> float:
        """Return the value of zero reflectance of the band that a file calls `name`.

        Temperatures (``ST_B10``) have none.
        """
        return 0.0 if name and re.search(r"(?:^|_)ST_", name.strip().upper()) else self.black

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
_SPOT = (
    SensorBand(("BLUE",), "blue", 485),
    SensorBand(("GREEN",), "green", 560),
    SensorBand(("RED",), "red", 660),
    SensorBand(("NIR",), "nir", 825),
)
_PLEIADES = (
    SensorBand(("BLUE",), "blue", 490),
    SensorBand(("GREEN",), "green", 560),
    SensorBand(("RED",), "red", 650),
    SensorBand(("NIR",), "nir", 840),
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
        Sensor(
            "landsat8", "Landsat 8 OLI/TIRS", _OLI, _OLI_ORDERS,
            5000.0, None, "Landsat Level-1: zero reflectance at DN 5000",
        ),
        Sensor(
            "landsat9", "Landsat 9 OLI-2/TIRS-2", _OLI, _OLI_ORDERS,
            5000.0, None, "Landsat Level-1: zero reflectance at DN 5000",
        ),
        Sensor(
            "landsat7", "Landsat 7 ETM+", _ETM, _TM_ORDERS,
            0.0, None, "Landsat 7 Level-1: DN 0",
        ),
        Sensor(
            "landsat5", "Landsat 5 TM", _TM, _TM_ORDERS,
            0.0, None, "Landsat 5 Level-1: DN 0",
        ),
        Sensor(
            "landsat4", "Landsat 4 TM", _TM, _TM_ORDERS,
            0.0, None, "Landsat 4 Level-1: DN 0",
        ),
        Sensor(
            "sentinel2", "Sentinel-2 MSI", _MSI, _MSI_ORDERS,
            0.0, None, "Sentinel-2 before baseline 04.00: DN 0",
        ),
        Sensor(
            "sentinel2-04.00", "Sentinel-2 MSI, baseline 04.00 and later", _MSI, _MSI_ORDERS,
            1000.0, None, "Sentinel-2 baseline 04.00: zero reflectance at DN 1000",
        ),
        Sensor(
            "naip", "USDA NAIP", _NAIP, (("R", "G", "B", "N"), ("R", "G", "B")),
            0.0, 255.0, "NAIP: 8-bit",
        ),
        Sensor(
            "planet", "PlanetScope", _PLANET, _PLANET_ORDERS,
            0.0, None, "PlanetScope surface reflectance: DN 0",
        ),
        Sensor("hls-l30", "HLS L30 (Landsat)", _OLI, (), 0.0, None, "HLS: DN 0"),
        Sensor("hls-s30", "HLS S30 (Sentinel-2)", _MSI, (), 0.0, None, "HLS: DN 0"),
        Sensor(
            "modis", "MODIS surface reflectance", _MODIS, (tuple(b.names[0] for b in _MODIS),),
            0.0, None, "MOD09: DN 0",
        ),
        Sensor("spot", "SPOT 6 and 7", _SPOT, _BLUE_FIRST, 0.0, None, "SPOT 6 and 7: DN 0"),
        Sensor("pleiades", "Pléiades", _PLEIADES, _BLUE_FIRST, 0.0, None, "Pléiades: DN 0"),
        Sensor(
            "worldview", "WorldView-2 and -3", _WORLDVIEW, _WORLDVIEW_ORDERS,
            0.0, None, "WorldView: DN 0",
        ),
    )
}  # fmt: skip

LANDSATS = ("landsat4", "landsat5", "landsat7", "landsat8", "landsat9")
_OFFSET_SINCE = 20220125
"""Day from which ESA made Sentinel-2 products of baseline 04.00, which add 1000 to each value."""

_PATTERNS = (
    ("landsat9", r"\bLC09_|\bLO09_|LANDSAT[_ ]9"),
    ("landsat8", r"\bLC08_|\bLO08_|\bLC8\d{13}|LANDSAT[_ ]8"),
    ("landsat7", r"\bLE07_|\bLE7\d{13}|LANDSAT[_ ]7"),
    ("landsat5", r"\bLT05_|\bLT5\d{13}|LANDSAT[_ ]5"),
    ("landsat4", r"\bLT04_|\bLT4\d{13}|LANDSAT[_ ]4"),
    ("hls-l30", r"\bHLS\.L30\."),
    ("hls-s30", r"\bHLS\.S30\."),
    ("modis", r"\b(MOD|MYD)09[A-Z0-9]*\.A\d{7}"),
    ("sentinel2", r"\bS2[ABCD]_MSI|\bT\d{2}[A-Z]{3}_\d{8}T\d{6}_|SENTINEL-2"),
    ("naip", r"\bM_\d{7}_(NE|NW|SE|SW)_\d"),
    ("planet", r"ANALYTICMS|PSSCENE|PLANETSCOPE"),
    ("spot", r"\bIMG_SPOT[67]_|\bSPOT[ -]?[67]\b"),
    ("pleiades", r"\bIMG_PHR1[AB]_|\bPL[EÉ]IADES\b"),
    ("worldview", r"\bWORLDVIEW[ -]?0?[23]\b|\bWV0?[23]\b"),
)
_REFLECTANCE = (
    r"_L2S[PR]_|_SR_B(AND)?\d"  # Landsat
    r"|MSI_?L?2A|LEVEL-2A|\bT\d{2}[A-Z]{3}_\d{8}T\d{6}_B\w{2}_[126]0M"  # Sentinel-2
    r"|\bHLS\.[LS]30\.|\b(MOD|MYD|VNP|VJ1)09|ANALYTICMS_(8B_)?SR"
    r"|SURFACE[ _]REFLECTANCE"
)

Tags = Mapping[str, Mapping[str, str]]


def sensor_of(
    name: str, file_name: str = "", tags: Tags | None = None, bands: Sequence[str | None] = ()
) -> Sensor:
    """Return the preset `name`, with the zero of the product in file name, tags and band names.

    Where these are Landsat's and `name` is another sensor, the bands are Landsat's, by their names.
    Raises `BadParameter` for an unknown name.
    """
    key = name.lower().replace(" ", "")
    if key not in SENSORS:
        raise BadParameter(
            f"There is no preset for the sensor {name!r}.", f"Known: {', '.join(SENSORS)}."
        )
    sensor = SENSORS[key]
    if is_level2(file_name, bands):
        if key not in LANDSATS:
            return _as_level2(
                _named_by(file_name, tags or {}, bands)
                or replace(sensor, bands=(), orders=(), white=None)
            )
        return _as_level2(sensor)
    if key == "sentinel2":
        return _sentinel(file_name, tags or {}, any_name=True) or replace(
            sensor,
            reason="Sentinel-2: DN 0, as no baseline 04.00 or date since 2022-01-25 is named",
        )
    if key in LANDSATS and re.search(r"_SR_BAND\d", file_name.upper()):
        reason = "Landsat Collection 1 surface reflectance: DN 0"
        return replace(sensor, black=0.0, reason=reason)
    return sensor


def _as_level2(sensor: Sensor) -> Sensor:
    """Return the preset with the zero of Landsat Collection 2 Level-2."""
    reason = "Landsat Level-2: zero reflectance at DN 7273"
    return replace(sensor, black=0.2 / 2.75e-5, reason=reason)


def product_of(file_name: str, tags: Tags, bands: Sequence[str | None] = ()) -> Sensor | None:
    """Return what names say of bands and zero, whatever sensor the user names; else None.

    Its `reason` is empty where they say nothing of the zero. They do for Landsat Level-2, by the names
    of its bands (``SR_B4``, ``ST_B10``), Level-1 of Landsat 8 and 9, by the name of the product, and
    Sentinel-2, by that or its tags.
    """
    found = _named_by(file_name, tags, bands)
    sentinel = _sentinel(file_name, tags)
    name = file_name.replace("\\", "/").rpartition("/")[2].upper()
    if is_level2(file_name, bands):
        found = _as_level2(found or replace(SENSORS["landsat8"], bands=(), orders=()))
    elif sentinel is not None and sentinel.black:
        found = sentinel
    elif found is not None and not re.match("L[CO]0[89]_L1(TP|GT|GS)_", name):
        found = replace(found, black=0.0, white=None, reason="")
    return None if found is None else replace(found, is_given=False)


def _named_by(file_name: str, tags: Tags, bands: Sequence[str | None]) -> Sensor | None:
    """Return the sensor that file name or tags name, else what all sensors agree on by `bands`."""
    detected = detect_sensor(file_name, tags)
    if detected is not None:
        return SENSORS[detected]
    names = {name.strip().upper() for name in bands if name}
    numbered = {name for name in names if re.fullmatch(_NUMBERED, name)}
    if names >= set("RGBN"):
        numbered = set("RGBN")
    # Any file may count its bands B1, B2, B3.
    elif not any(names & own for own, _ in _OWN) and not any(map(_IS_OWN.fullmatch, numbered)):
        return None
    candidates = [
        sensor
        for sensor in SENSORS.values()
        if all(sensor.band(name) is not None for name in numbered)
        and all(sensor.id.startswith(owners) for own, owners in _OWN if names & own)
    ]
    if is_level2("", bands):
        candidates = [sensor for sensor in candidates if sensor.id in LANDSATS]
        # No file of Landsat 4 to 7 has SR_B6, and files of 8 and 9 without it are not usual.
        usual = {name.replace("SR_", "") for name in numbered if not name.startswith("ST_")}
        whole = [c for c in candidates if usual in map(set, c.orders)]
        candidates = whole or candidates
    agreed = tuple(
        band
        for name in sorted(numbered)
        for band in [_agreed([c.band(name) for c in candidates], name)]
        if band is not None
    )
    if not agreed:
        return None
    titles = " or ".join(dict.fromkeys(candidate.title for candidate in candidates))
    return Sensor(candidates[0].id, titles, agreed, orders=())


_NUMBERED = r"(S[RT]_)?B(AND[ _]?)?\d{1,2}A?|SUR_REFL_B\d\d(_1)?"
"""Names of bands that count them; colours are named by others, too."""
_IS_OWN = re.compile(r"S[RT]_B\d{1,2}|B8A|SUR_REFL_B\d\d(_1)?")
"""Those of them that no other file has."""
_OWN = (
    (
        frozenset("SCL AOT WVP MSK_CLDPRB MSK_SNWPRB QA10 QA20 QA60 TCI_R TCI_G TCI_B".split()),
        ("sentinel2",),
    ),
    (frozenset(("QA_PIXEL", "QA_RADSAT")), ("landsat",)),
    (frozenset(("SR_QA_AEROSOL",)), ("landsat8", "landsat9")),
    (frozenset(("SR_ATMOS_OPACITY", "SR_CLOUD_QA")), ("landsat4", "landsat5", "landsat7")),
)
"""Names of other bands, and how the ids of sensors begin whose files have them."""
NEAR = 25.0
"""Nanometres that sensors' centres of what is one band may be apart."""


def _agreed(bands: Sequence[SensorBand | None], name: str) -> SensorBand | None:
    """Return what all sensors mean by a band's name; None where they differ."""
    known = [band for band in bands if band is not None]
    if len({band.role for band in known}) != 1:
        return None
    waves = [band.wavelength for band in known if band.wavelength is not None]
    if not waves or max(waves) - min(waves) > NEAR:
        return None
    return SensorBand((name,), known[0].role, waves[0])


def is_level2(file_name: str, bands: Sequence[str | None] = ()) -> bool:
    """Return whether names are those of Landsat Collection 2 Level-2."""
    short = file_name.replace("\\", "/").rpartition("/")[2].upper()
    named = [re.match(r"\W*S[RT]_B\d", text.strip().upper()) for text in bands if text]
    return any(named) or bool(re.search(r"(?:^|_)L2S[PR]_|(?:^|_)S[RT]_B\d", short))


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


def _sentinel(file_name: str, tags: Tags, *, any_name: bool = False) -> Sensor | None:
    """Return the preset of Sentinel-2 with the zero of the product; None where nothing tells it.

    The baseline decides, else the last date in the name: products are made after their scenes. With
    `any_name` the name need not be one that ESA gives.
    """
    before, since = SENSORS["sentinel2"], SENSORS["sentinel2-04.00"]
    text = file_name.replace("\\", "/").upper()
    ours = [part for part in text.split("/") if re.search(_SENTINEL, part)]
    values = {
        key.upper(): text[:4096].upper() for tag in tags.values() for key, text in tag.items()
    }
    tagged = any(re.search(r"SENTINEL-2|\bS2[ABCD]?_?MSI", value) for value in values.values())
    if not (ours or tagged or any_name):
        return None
    baseline = re.search(r"_N(\d{2})(\d{2})_R\d{3}", text) or re.fullmatch(
        r"N?(\d{2})\.?(\d{2})", values.get("PROCESSING_BASELINE", "").strip()
    )
    if baseline is not None:
        return since if int(baseline[1]) >= 4 else before
    dates = [int(date) for part in ours for date in re.findall(r"(?<!\d)(20\d{6})T\d{6}", part)]
    if any_name:
        short = re.sub(r"(?<=\d)-(?=\d\d(?!\d))", "", text.rpartition("/")[2])
        dates += map(int, re.findall(r"(?<!\d)(20[12]\d(?:0[1-9]|1[0-2])[0-3]\d)(?!\d)", short))
    made = (values.get(key, "") for key in ("GENERATION_TIME", "PRODUCT_START_TIME"))
    dates += [int("".join(match.groups())) for text in made if (match := _ISO.match(text))]
    if not dates:
        return None
    return since if max(dates) >= _OFFSET_SINCE else before


_SENTINEL = r"(?:^|_)S2[ABCD]_MSIL\d|(?:^|_)T\d{2}[A-Z]{3}_(?:A\d{6}_)?20\d{6}T\d{6}"
"""Names that ESA gives to products, granules and files of bands."""
_ISO = re.compile(r"(20\d{2})-(\d{2})-(\d{2})T")
