"""What an image's bands are: their roles, their wavelengths, and which of them show light.

Determined in this order: the user's option, colour interpretation, descriptions, wavelengths, the
sensor preset. A role that none of them gives stays unknown: a silent 1, 2, 3 would take blue for
red in many a satellite file. A band that is named as classes, bits, angles and the like is
auxiliary: no method, statistic or validity takes it for light.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeVar

from napari_restore.errors import BadParameter
from napari_restore.images.values._sensors import Sensor, SensorBand, product_of

_T = TypeVar("_T")
GivenBands = str | Sequence[int | str | None] | Mapping[str, int]
"""What users write, see `parse_bands`."""
Kind = Literal["light", "auxiliary", "unknown"]

LIGHT = (
    "red", "green", "blue", "nir", "rededge", "swir", "coastal", "cirrus", "thermal", "pan", "gray",
)  # fmt: skip
AUXILIARY = (
    "class", "label", "mask", "quality", "probability", "angle", "height", "aerosol", "index",
)  # fmt: skip
"""Roles of bands that show no light; several bands may have the same one."""
ROLES = (*LIGHT, "alpha", *AUXILIARY)

_FROM_INTERPRETATION = {
    "red": "red", "green": "green", "blue": "blue", "alpha": "alpha", "pan": "pan",
    "coastal": "coastal", "rededge": "rededge", "nir": "nir", "swir": "swir", "tir": "thermal",
}  # fmt: skip

_WORDS = (
    ("rededge", r"red[ _-]?edge|vegetation[ _-]red"),
    ("nir", r"\bnir\w*|near[ _-]?infra[ _-]?red|\bn\.?i\.?r\b"),
    ("swir", r"\bswir\w*|short[ _-]?wave"),
    ("thermal", r"thermal|\btir\w*|\blwir"),
    ("coastal", r"coastal|aerosol"),
    ("cirrus", r"cirrus"),
    ("pan", r"\bpan(chromatic)?\b"),
    ("alpha", r"\balpha\b"),
    ("red", r"\bred\b|^r$"),
    ("green", r"\bgreen\b|^g$"),
    ("blue", r"\bblue\b|^b$"),
    ("gray", r"\bgr[ae]y\b|\bluminance\b"),
)

_AUXILIARY_WORDS = (
    # As Sentinel-2, Landsat, HLS, Planet and MODIS name them, and plain words.
    ("probability", r"\bprob(ability)?\b|\bcldprb\b|\bsnwprb\b|\bconfidence\b"),
    ("quality", r"\bb?qa\b|\bqa[126]0\b|\bqc\b|\bqf\b|\bquality\b|\bflags?\b"),
    ("quality", r"\bstate ?(1km|500m|qa)\b|\bfmask\b|\budm2?\b"),
    ("mask", r"mask\b|\bmsk\b"),
    ("quality", r"\bst (atran|cdist|drad|emis|emsd|trad|urad)\b"),
    ("class", r"\bscl\b|\bclass(es|ification|ified)?\b|\bland ?cover\b|\bcategor(y|ies)\b"),
    ("label", r"\blabels?\b"),
    ("angle", r"\bangles?\b|zenith|azimuth|\b[sv][az]a\b|\bincidence\b"),
    ("height", r"\bd[est]m\b|\belevation\b|\baltitude\b|\bslope\b|\baspect\b|\bheight\b"),
    ("aerosol", r"\baerosol optical\b|\bao[td]\b|\bwvp\b|\batmos(pheric)? opacity\b"),
    ("index", r"\b(g?ndvi|m?ndwi|ndmi|ndsi|ndbi|ndre|nbr2?|evi2?|savi)\b|\bindex\b"),
)  # fmt: skip
_AUXILIARY_NAMES = {
    "cloud": "mask", "clouds": "mask", "cloud shadow": "mask", "shadow": "mask", "snow": "mask",
    "clear": "mask", "light haze": "mask", "heavy haze": "mask", "cld": "probability",
    "snw": "probability", "cs cdf": "probability", "fill": "mask",
    "sr aerosol": "quality", "aerosol": "quality", "doy": "index", "day of year": "index",
}  # fmt: skip
"""Roles of words that mean them only alone: there are cloud-free and snow-covered scenes."""
LONGEST = 256
"""Characters of a band's name that are looked at: files of strangers may have any number."""
_ANGLES = ("deg", "degree", "degrees", "radian", "radians")

_RANGES = (
    ("coastal", 400, 450, None),
    ("blue", 450, 515, 480.0),
    ("green", 515, 600, 555.0),
    ("red", 620, 690, 660.0),
    ("rededge", 690, 790, None),
    ("nir", 790, 1000, 850.0),
    ("cirrus", 1360, 1390, None),
    ("swir", 1390, 2500, None),
    ("thermal", 8000, 14000, None),
)
"""Role, from and to in nm, and the centre to which only the nearest band is taken."""


@dataclass(frozen=True)
class Bands:
    """What the bands of an image are, one item per band."""

    roles: tuple[str | None, ...]
    wavelengths: tuple[float | None, ...]
    """Nanometres."""

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """``light`` is reflectance or radiance; ``auxiliary`` are classes, bits, angles and alpha."""
        return tuple(map(_kind, self.roles, self.wavelengths))

    @cached_property
    def data(self) -> tuple[int, ...]:
        """Numbers of the bands that are restored, counted, and make a pixel valid or not.

        Unknown bands are among them, for many a file names none of its bands; so are auxiliary ones
        where there is nothing else.
        """
        light = tuple(n for n, kind in enumerate(self.kinds) if kind != "auxiliary")
        return light or tuple(n for n, role in enumerate(self.roles) if role != "alpha")

    def of(self, numbers: Sequence[int]) -> Bands:
        """Return the bands `numbers` only, in that order."""
        roles = tuple(self.roles[n] for n in numbers)
        return Bands(roles, tuple(self.wavelengths[n] for n in numbers))

    def named(self, given: Mapping[str, int]) -> Bands:
        """Return the bands with the user's roles; no other band keeps one that shows light."""
        moved = {role for role in given if role not in AUXILIARY}
        roles = [None if role in moved else role for role in self.roles]
        waves = list(self.wavelengths)
        for role, band in given.items():
            roles[band] = role
            if role in AUXILIARY:
                waves[band] = None
        return Bands(tuple(roles), tuple(waves))


def _kind(role: str | None, wavelength: float | None) -> Kind:
    if role == "alpha" or role in AUXILIARY:
        return "auxiliary"
    return "unknown" if role is None and wavelength is None else "light"


def describe_bands(
    count: int,
    colorinterp: Sequence[str] = (),
    descriptions: Sequence[str | None] = (),
    wavelengths: Sequence[float | None] = (),
    sensor: Sensor | None = None,
    given: GivenBands | None = None,
    *,
    band_tags: Sequence[Mapping[str, Mapping[str, str]]] = (),
    units: Sequence[str | None] = (),
) -> Bands:
    """Return what `count` bands are; see the module for the order of the sources."""
    interp = _padded(colorinterp, count)
    names = _padded(descriptions, count)
    own = _padded(wavelengths, count)
    roles: list[str | None] = [_FROM_INTERPRETATION.get(i or "") for i in interp]
    if count - roles.count("alpha") == 1:
        # Grey is GDAL's name for the first of many unknown bands, too.
        roles = ["gray" if i == "gray" else r for i, r in zip(interp, roles, strict=True)]
    auxiliary: list[str | None] = [
        None if role or wave else _auxiliary_role(name, tags or {}, unit)
        for role, wave, name, tags, unit in zip(
            roles, own, names, _padded(band_tags, count), _padded(units, count), strict=True
        )
    ]
    if count - roles.count("alpha") == 1:
        # A mask opened by itself is the picture.
        auxiliary = [None] * count
    light = [n for n in range(count) if auxiliary[n] is None and roles[n] != "alpha"]
    preset = _preset(sensor, names, light, roles)
    waves = [
        w or (None if a else _wavelength_in(n))
        for w, n, a in zip(own, names, auxiliary, strict=True)
    ]
    for source in (
        auxiliary,
        [role_of_description(name) for name in names],
        _roles_of_wavelengths(waves),
        [band.role if band else None for band in preset],
    ):
        roles = [known or new for known, new in zip(roles, source, strict=True)]
    waves = [
        w or (band.wavelength if band and not a else None)
        for w, band, a in zip(waves, preset, auxiliary, strict=True)
    ]
    found = Bands(tuple(roles), tuple(waves))
    return found if given is None else found.named(parse_bands(given, count))


def auxiliary_role(text: str | None) -> str | None:
    """Return the role in the name of a band that shows no light ("QA_PIXEL" → quality)."""
    return _named_auxiliary(text[:LONGEST]) if text else None


@lru_cache(1024)
def _named_auxiliary(text: str) -> str | None:
    words = re.sub(r"[\W_]+", " ", text.lower()).strip()
    if words in _AUXILIARY_NAMES:
        return _AUXILIARY_NAMES[words]
    return next((role for role, pattern in _AUXILIARY_WORDS if re.search(pattern, words)), None)


def _auxiliary_role(
    name: str | None, tags: Mapping[str, Mapping[str, str]], unit: str | None
) -> str | None:
    """Return the role of a band that shows no light, by its name, unit or CF attributes."""
    if role := auxiliary_role(name):
        return role
    if any(key.startswith("flag_") for space in tags.values() for key in space):
        return "quality"
    return "angle" if unit and unit.lower() in _ANGLES else None


def parse_bands(given: GivenBands, count: int) -> dict[str, int]:
    """Return band number (from 0) by role, from the user's text with numbers from 1.

    Understood are ``"red=4,green=3,blue=2"``, ``"4,3,2"`` (red, green, blue, then nir),
    ``"red,green,blue,nir"`` (one role per band, in order, ``-`` for none), the same as sequences,
    and a mapping of roles to numbers. Raises `BadParameter`.
    """
    if isinstance(given, Mapping):
        pairs = [(str(role), number) for role, number in given.items()]
    else:
        items: list[int | str | None]
        items = [p.strip() for p in given.split(",")] if isinstance(given, str) else list(given)
        pairs = _pairs(items)
    found: dict[str, int] = {}
    for role, number in pairs:
        name = {"grey": "gray", "near": "nir", "r": "red", "g": "green", "b": "blue"}.get(
            role, role
        )
        if name not in ROLES:
            raise BadParameter(f"There is no band role {role!r}.", f"Known: {', '.join(ROLES)}.")
        if not 1 <= number <= count:
            raise BadParameter(
                f"Band {number} does not exist: the image has {count}.",
                "Bands are counted from 1.",
            )
        found[name] = number - 1
    return found


def role_of_description(text: str | None) -> str | None:
    """Return the role in a band's name, if exactly one is named ("Band 4 (Red)" → red)."""
    if not text:
        return None
    words = text.strip().lower().replace("_", " ")
    hits = [role for role, pattern in _WORDS if re.search(pattern, words)]
    if "rededge" in hits:
        hits = [h for h in hits if h != "red"]
    if "coastal" in hits:
        hits = [h for h in hits if h != "blue"]
    return hits[0] if len(hits) == 1 else None


def is_named_light(text: str, others: Sequence[str | None] = ()) -> bool:
    """Return whether a band's name is that of a band of light, beside those of the other bands."""
    if role_of_description(text) in (*LIGHT,):
        return True
    return product_of("", {}, [*others, text]) is not None and not auxiliary_role(text)


def _pairs(items: Sequence[int | str | None]) -> list[tuple[str, int]]:
    try:
        if all(isinstance(i, str) and "=" in i for i in items):
            split = [str(i).split("=", 1) for i in items]
            return [(role.strip().lower(), int(number)) for role, number in split]
        if all(isinstance(i, int) or (isinstance(i, str) and i.isdigit()) for i in items):
            order = ("gray",) if len(items) == 1 else ("red", "green", "blue", "nir")
            if len(items) > len(order):
                raise ValueError
            return [(order[n], int(str(i))) for n, i in enumerate(items)]
        return [
            (str(role).lower(), n + 1)
            for n, role in enumerate(items)
            if role not in (None, "", "-")
        ]
    except ValueError:
        raise BadParameter(
            "Bands are not understood.", 'Write them as "red=4,green=3,blue=2".'
        ) from None


def _padded(values: Sequence[_T], count: int) -> list[_T | None]:
    return [*values, *[None] * count][:count]


def _wavelength_in(text: str | None) -> float | None:
    """Return a wavelength named in a description, in nm ("B4, central wavelength 665 nm")."""
    if not text:
        return None
    if match := re.search(r"(\d{3,5}(?:\.\d+)?)\s*(?:nm|nanomet)", text, re.IGNORECASE):
        return float(match[1])
    if match := re.search(r"(\d{1,2}\.\d+)\s*(?:µm|um|micromet)", text, re.IGNORECASE):
        return float(match[1]) * 1000
    return None


def _roles_of_wavelengths(waves: Sequence[float | None]) -> list[str | None]:
    roles: list[str | None] = [
        next((role for role, low, high, _ in _RANGES if w and low <= w < high), None) for w in waves
    ]
    for role, _, _, centre in _RANGES:
        rivals = [i for i, r in enumerate(roles) if r == role]
        if centre is not None and len(rivals) > 1:
            nearest = min(rivals, key=lambda i: abs((waves[i] or 0) - centre))
            for i in rivals:
                roles[i] = role if i == nearest else None
    return roles


def _preset(
    sensor: Sensor | None,
    names: Sequence[str | None],
    light: Sequence[int],
    roles: Sequence[str | None],
) -> Sequence[SensorBand | None]:
    """Return the preset's bands by the names in the file, else by the usual order of `light`.

    The order of a sensor that the user has not named must agree with the `roles` of three bands.
    """
    if sensor is None:
        return [None] * len(names)
    named = [sensor.band(re.split(r"[ ,(:]", name.strip())[0]) if name else None for name in names]
    if any(named):
        return named
    ordered: list[SensorBand | None] = [None] * len(names)
    for number, band in zip(light, sensor.of_count(len(light)) or (), strict=False):
        ordered[number] = band
    known = [
        (roles[n], band and band.role) for n, band in enumerate(ordered) if n in light and roles[n]
    ]
    if sensor.is_given or (len(known) >= 3 and all(mine == its for mine, its in known)):
        return ordered
    return [None] * len(names)
