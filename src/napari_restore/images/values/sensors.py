"""What names in a file say of the sensor that took it, and the preset that a user names.

A preset's bands are those that names say. Where only names of bands are known ("SR_B4", "B8A"), they
are those of every sensor that has bands of these names; what two sensors mean differently by a name
stays unknown. The order of a file's bands counts where the user names the sensor, or where roles that
are known agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from napari_restore.errors import BadParameter, option
from napari_restore.images.values.facts import resolve
from napari_restore.images.values.presets import NamedBy, Sensor, SensorBand
from napari_restore.images.values.sensor_file import is_sensor_text, known_sensors, sensor_of_text

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

    `name` may also be the text of a sensor file, see `sensor_text`: what it says is not changed.
    Raises `BadParameter` for an unknown name, and for a sensor whose bands have other names.
    """
    if is_sensor_text(name):
        return sensor_of_text(name)
    key = name.lower().replace(" ", "")
    if key not in (known := known_sensors()):
        raise BadParameter(
            f"There is no preset for the sensor {name!r}.", f"Known: {', '.join(known)}."
        )
    sensor = known[key]
    _check_names(sensor, file_name, bands)
    if is_level2(file_name, bands):
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


def _check_names(sensor: Sensor, file_name: str, bands: Sequence[str | None]) -> None:
    """Raise `BadParameter` where names that only other sensors have are in the file."""
    names = _names(bands)
    own = sorted(name for name in names if _is_own(name))
    fitting = [each.id for each in _candidates(names)] if own else []
    subject = f"Its bands ({', '.join(own[:3])}{', …' if len(own) > 3 else ''}) are"
    if not own and is_level2(file_name):
        fitting, subject = list(LANDSATS), "It is"
    if not fitting or sensor.id in fitting:
        return
    known = detect_sensor(file_name, {})
    line = option("sensor", known if known in fitting else fitting[0])
    raise BadParameter(
        f"{subject} named as those of {', '.join(fitting)} are, and not as those of {sensor.id}.",
        f"Write {line}, or leave {option('sensor')} out: then the names decide.",
    )


def _as_level2(sensor: Sensor) -> Sensor:
    """Return the preset with the zero of Landsat Collection 2 Level-2."""
    reason = "Landsat Level-2: zero reflectance at DN 7273"
    title = f"{sensor.title}, Collection 2 Level 2"
    return replace(sensor, title=title, black=0.2 / 2.75e-5, reason=reason, per_unit=2.75e-5)


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
        found = _as_level2(
            found or replace(known_sensors()["landsat8"], title="Landsat", bands=(), orders=())
        )
    elif sentinel is not None and sentinel.black:
        found = sentinel
    elif found is not None and not re.match("L[CO]0[89]_L1(TP|GT|GS)_", name):
        found = replace(found, black=0.0, white=None, reason="")
    if found is None:
        return None
    return replace(found, named_by=_named_where(file_name, tags, bands))


def _named_where(file_name: str, tags: Tags, bands: Sequence[str | None]) -> NamedBy:
    """Return which names decide what `product_of` finds."""
    if is_level2("", bands):
        return "names of the bands"
    if is_level2(file_name) or detect_sensor(file_name, {}) or _sentinel(file_name, {}):
        return "name of the file"
    return "tags" if detect_sensor("", tags) or _sentinel("", tags) else "names of the bands"


def _named_by(file_name: str, tags: Tags, bands: Sequence[str | None]) -> Sensor | None:
    """Return the sensor that file name or tags name, else what all sensors agree on by `bands`."""
    detected = detect_sensor(file_name, tags)
    if detected is not None:
        return known_sensors()[detected]
    names = _names(bands)
    numbered = _numbered(names)
    # Any file may count its bands B1, B2, B3.
    if not (any(map(_is_own, names)) or numbered >= set("RGBN")):
        return None
    candidates = _candidates(names)
    if is_level2("", bands):
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
    titles = " or ".join(dict.fromkeys(c.title.partition(",")[0] for c in candidates))
    return Sensor(candidates[0].id, titles, agreed, orders=())


def _names(bands: Sequence[str | None]) -> set[str]:
    return {name.strip().upper() for name in bands if name}


def _numbered(names: set[str]) -> set[str]:
    """Return those of `names` by which sensors name bands of light."""
    rgbn = set("RGBN")
    return rgbn if names >= rgbn else {name for name in names if re.fullmatch(_NUMBERED, name)}


def _is_own(name: str) -> bool:
    """Return whether only files of some sensors have a band of this name."""
    return any(name in own for own, _ in _OWN) or _IS_OWN.fullmatch(name) is not None


def _candidates(names: set[str]) -> list[Sensor]:
    """Return the sensors whose files have bands of all these names."""
    numbered = _numbered(names)
    return [
        sensor
        for sensor in known_sensors().values()
        if all(sensor.band(name) is not None for name in numbered)
        and all(sensor.id.startswith(owners) for own, owners in _OWN if names & own)
        and (sensor.id in LANDSATS or not is_level2("", [*names]))
    ]


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
    """Return the preset of Sentinel-2 with the zero of the product; None where nothing states it.

    The baseline decides, else the last date in the name: products are made after their scenes. With
    `any_name` the name need not be one that ESA gives.
    """
    texts = _SentinelTexts.of(file_name, tags)
    tagged = any(re.search(r"SENTINEL-2|\bS2[ABCD]?_?MSI", value) for value in texts.tags.values())
    if not (texts.ours or tagged or any_name):
        return None
    zeros = resolve(_zeros_of_sentinel(texts, any_name=any_name))
    if zeros.value is None:
        return None
    return known_sensors()["sentinel2-04.00" if zeros.value else "sentinel2"]


class _SentinelTexts(NamedTuple):
    """The path of a file in capitals, its parts that ESA named, and its tags."""

    path: str
    ours: list[str]
    tags: dict[str, str]

    @classmethod
    def of(cls, file_name: str, tags: Tags) -> Self:
        path = file_name.replace("\\", "/").upper()
        ours = [part for part in path.split("/") if re.search(_SENTINEL, part)]
        return cls(
            path,
            ours,
            {
                key.upper(): text[:4096].upper()
                for tag in tags.values()
                for key, text in tag.items()
            },
        )


def _zeros_of_sentinel(
    texts: _SentinelTexts, *, any_name: bool = False
) -> Iterator[tuple[str, int | None]]:
    """Yield sources of the zero of Sentinel-2, in order, and what they say."""
    in_name = re.search(r"_N(\d{2})\d{2}_R\d{3}", texts.path)
    yield "processing baseline in its name", in_name and 1000 * (int(in_name[1]) >= 4)
    in_tags = re.fullmatch(r"N?(\d{2})\.?\d{2}", texts.tags.get("PROCESSING_BASELINE", "").strip())
    yield "processing baseline in its tags", in_tags and 1000 * (int(in_tags[1]) >= 4)
    dates = [
        int(date) for part in texts.ours for date in re.findall(r"(?<!\d)(20\d{6})T\d{6}", part)
    ]
    if any_name:
        short = re.sub(r"(?<=\d)-(?=\d\d(?!\d))", "", texts.path.rpartition("/")[2])
        dates += map(int, re.findall(r"(?<!\d)(20[12]\d(?:0[1-9]|1[0-2])[0-3]\d)(?!\d)", short))
    made = (texts.tags.get(key, "") for key in ("GENERATION_TIME", "PRODUCT_START_TIME"))
    dates += [int("".join(match.groups())) for text in made if (match := _ISO.match(text))]
    yield "its last date", 1000 * (max(dates) >= _OFFSET_SINCE) if dates else None


def disputes_of_product(file_name: str, tags: Tags, given: str | None) -> list[str]:
    """Return notes where name, tags and the user (`given`, an id) say different sensors or zeros."""
    user = None if given is None or is_sensor_text(given) else given.lower().replace(" ", "")
    sensors = resolve(
        [("user", user), ("name", detect_sensor(file_name, {})), ("tags", detect_sensor("", tags))]
    )
    own = sensors.value or ""
    others = [(by, other) for by, other in sensors.others if not _is_related(own, other)]
    notes = replace(sensors, others=tuple(others)).disputes(
        "sensor", lambda each: known_sensors()[each].title
    )
    if own.startswith("sentinel2") and user is None:
        zeros = resolve(_zeros_of_sentinel(_SentinelTexts.of(file_name, tags)))
        # A scene of before may have been processed again since.
        if zeros.value == 0 or "its last date" not in dict(zeros.others):
            notes += zeros.disputes("zero", "DN {}".format)
    return [*notes]


def _is_related(sensor: str, other: str) -> bool:
    """Return whether a product of one sensor may name the other: HLS are of Landsat and Sentinel-2."""
    return sensor.partition("-")[0] == other.partition("-")[0] or "hls" in sensor + other


_SENTINEL = r"(?:^|_)S2[ABCD]_MSIL\d|(?:^|_)T\d{2}[A-Z]{3}_(?:A\d{6}_)?20\d{6}T\d{6}"
"""Names that ESA gives to products, granules and files of bands."""
_ISO = re.compile(r"(20\d{2})-(\d{2})-(\d{2})T")
