"""What an image's bands are: their roles, their wavelengths, and which of them show light.

Determined in this order: the user's option, a sensor that the user names, a product of fixed bands,
descriptions, colour interpretation, wavelengths. Where two disagree a note says so; where neither is the
user's, models of these colours refuse. A role that none of them gives stays unknown: a silent 1, 2, 3 would
take blue for red in many a satellite file. A band that is named as classes, bits, angles and the like is
auxiliary: no method, statistic or validity takes it for light. "auxiliary" is a word of docs/glossary.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, TypeVar

from napari_restore.errors import BadParameter
from napari_restore.images.values.facts import Fact, OpeningNote, resolve
from napari_restore.images.values.presets import (
    AUXILIARY,
    COLOURS,
    LIGHT,
    ROLES,
    Sensor,
    SensorBand,
)
from napari_restore.images.values.sensors import NEAR, product_of

_T = TypeVar("_T")
GivenBands = str | Sequence[int | str | None] | Mapping[str, int]
"""What users write, see `parse_bands`."""
Kind = Literal["light", "auxiliary", "unknown"]
Origin = Literal[
    "user", "colour interpretation", "name", "unit", "attributes", "wavelength", "sensor"
]
"""What a band's role, else its wavelength, is inferred from."""
UNKNOWN = "unknown"
"""What users write as the role of a band that has none."""

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
    ("aerosol", r"\baerosol optical\b|\bao[td]\b|\batmos(pheric)? opacity\b"),
    ("watervapour", r"\bwvp\b|\bwater vapou?r (map|column|content)\b"),
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


class GivenBand(NamedTuple):
    """What a user says of one band."""

    number: int
    """Counted from 0."""
    role: str | None
    """None: no known one."""
    wavelength: float | None = None
    """Nanometres; None: that of the file, where the role shows light."""


class Dispute(NamedTuple):
    """Two sources that say something else of one band, counted from 0."""

    number: int
    role: str | None
    by: str | None
    other: str
    """A role, or a wavelength ("865 nm")."""
    other_by: str
    is_sure: bool
    """Whether it is of the user, or the product has no other bands."""


@dataclass(frozen=True)
class Bands:
    """What the bands of an image are, one item per band."""

    roles: tuple[str | None, ...]
    wavelengths: tuple[float | None, ...]
    """Nanometres."""
    origins: tuple[Origin | None, ...] = field(default=(), compare=False)
    disputes: tuple[Dispute, ...] = field(default=(), compare=False)
    """What sources say that were not believed."""

    @cached_property
    def notes(self) -> list[str]:
        """A sentence for each two sources that disagree."""
        groups: dict[tuple[str | None, str], list[Dispute]] = {}
        for each in self.disputes:
            groups.setdefault((each.by, each.other_by), []).append(each)
        return [
            OpeningNote(
                f"{_counted(group)} {', '.join(each.role or UNKNOWN for each in group)} by "
                f"{by or 'the others'}, not {', '.join(each.other for each in group)} by {other}."
            )
            for (by, other), group in groups.items()
        ]

    @cached_property
    def unsure(self) -> frozenset[str]:
        """The colours that the file itself gives in two ways, and the user in none."""
        open_roles = (
            role for each in self.disputes if not each.is_sure for role in (each.role, each.other)
        )
        return frozenset(COLOURS).intersection(open_roles)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """``light`` is reflectance or radiance; ``auxiliary`` are classes, bits, angles and alpha."""
        return tuple(map(_kind, self.roles, self.wavelengths))

    @cached_property
    def data(self) -> tuple[int, ...]:
        """Numbers of the bands that are restored, counted, and make a pixel valid or not."""
        # Unknown bands are among them, for many a file names none of its bands; so are auxiliary
        # ones where there is nothing else.
        light = tuple(n for n, kind in enumerate(self.kinds) if kind != "auxiliary")
        return light or tuple(n for n, role in enumerate(self.roles) if role != "alpha")

    def of(self, numbers: Sequence[int]) -> Bands:
        """Return the bands `numbers` only, in that order."""
        parts = (self.roles, self.wavelengths, self.origins)
        disputes = (
            each._replace(number=place)
            for place, n in enumerate(numbers)
            for each in self.disputes
            if each.number == n
        )
        roles, waves, origins = (tuple(part[n] for n in numbers) if part else () for part in parts)
        return Bands(roles, waves, origins, tuple(disputes))  # type: ignore[arg-type]

    def named(self, given: Sequence[GivenBand]) -> Bands:
        """Return the bands with what the user says, in order: one band only has a role of light."""
        roles, waves = list(self.roles), list(self.wavelengths)
        origins: list[Origin | None] = _padded(self.origins, len(roles))
        of_user = {band.number: band.role for band in given}
        disputes = [
            each._replace(role=of_user[each.number], by="user", is_sure=True)
            if each.number in of_user
            else each
            for each in self.disputes
            if of_user.get(each.number) != each.other
        ]
        for number, role, wavelength in given:
            earlier, by = self.roles[number], self.origins and self.origins[number]
            if role and earlier and by and role != earlier:
                disputes.append(Dispute(number, role, "user", earlier, by, True))
            if role not in AUXILIARY:
                roles = [None if each == role else each for each in roles]
            roles[number], origins[number] = role, "user"
            if wavelength is not None:
                waves[number] = wavelength
            elif role is None or role in AUXILIARY:
                waves[number] = None
        return Bands(tuple(roles), tuple(waves), tuple(origins), tuple(disputes))


def _counted(bands: Sequence[Dispute]) -> str:
    numbers = ", ".join(str(each.number + 1) for each in bands)
    return f"Band {numbers} is" if len(bands) == 1 else f"Bands {numbers} are"


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
    colours: list[str | None] = [_FROM_INTERPRETATION.get(i or "") for i in interp]
    if count - colours.count("alpha") == 1:
        # Grey is GDAL's name for the first of many unknown bands, too.
        colours = ["gray" if i == "gray" else c for i, c in zip(interp, colours, strict=True)]
    auxiliary: list[tuple[str, Origin] | None] = [
        None if colour or wave else _auxiliary_role(name, tags or {}, unit)
        for colour, wave, name, tags, unit in zip(
            colours, own, names, _padded(band_tags, count), _padded(units, count), strict=True
        )
    ]
    if count - colours.count("alpha") == 1:
        # A mask opened by itself is the picture.
        auxiliary = [None] * count
    light = [n for n in range(count) if auxiliary[n] is None and colours[n] != "alpha"]
    preset, is_named = _preset(sensor, names, light, colours)
    preset_roles = [band.role if band else None for band in preset]
    by_user = sensor is not None and sensor.is_given
    if sensor is not None and sensor.named_by == "file":
        # It is about these very bands, whatever else their names look like.
        auxiliary = [None if r else a for r, a in zip(preset_roles, auxiliary, strict=True)]
    centres: list[tuple[Origin, Sequence[float | None]]] = [
        ("sensor", _wavelengths_of(preset, own, sensor)),
        ("wavelength", own),
        ("name", [None if a else _wavelength_in(n) for n, a in zip(names, auxiliary, strict=True)]),
    ]
    waves = [resolve((origin, each[n]) for origin, each in centres) for n in range(count)]
    nobody: Sequence[str | None] = [None] * count
    # The only band is grey, but in a sensor file of the user.
    tops = ("alpha",) if sensor is not None and sensor.named_by == "file" else ("alpha", "gray")
    # A colour that several bands are named after says less than their tag.
    named = [role_of_description(name) for name in names]
    is_sure = by_user or _has_fixed_bands(sensor, count)
    first: list[tuple[Origin, Sequence[str | None]]] = [
        ("colour interpretation", [c if c in tops else None for c in colours]),
        ("sensor", preset_roles if is_sure else nobody),
        *((a[1], [a[0] if n == m else None for m in range(count)])
          for n, a in enumerate(auxiliary) if a is not None),
        ("name", [None if r in COLOURS and named.count(r) > 1 else r for r in named]),
        ("sensor", preset_roles if is_named else nobody),
    ]  # fmt: skip
    known = [resolve((origin, each[n]) for origin, each in first).value for n in range(count)]
    # A tag is of all bands at once: many a writer calls any first three red, green and blue.
    is_overruled = any(
        colour in COLOURS and colour != role and (role is not None or colour in known)
        for colour, role in zip(colours, known, strict=True)
    )
    tag: list[tuple[Origin, Sequence[str | None]]] = [("colour interpretation", colours)]
    taken: list[tuple[Origin, Sequence[str | None]]] = [
        *first,
        *([] if is_overruled else tag),
        ("name", named),
        ("wavelength", _roles_of_wavelengths([fact.value for fact in waves])),
        ("sensor", preset_roles),
    ]
    facts = [resolve((origin, each[n]) for origin, each in taken) for n in range(count)]
    found = Bands(
        tuple(fact.value for fact in facts),
        tuple(
            # Those of a sensor come with its roles, or not at all.
            wave.value or (band.wavelength if band and band.role in (None, fact.value) else None)
            for fact, wave, band in zip(facts, waves, preset, strict=True)
        ),
        tuple(
            fact.source or ("wavelength" if wave.value else "sensor" if band else None)
            for fact, wave, band in zip(facts, waves, preset, strict=True)
        ),
        tuple(
            dispute
            for n, (fact, wave) in enumerate(zip(facts, waves, strict=True))
            for dispute in _disputes(n, fact, wave, colours[n] if is_overruled else None, is_sure)
        ),
    )
    return found if given is None else found.named(parse_bands(given, count))


def _disputes(
    number: int, role: Fact[Origin, str], wave: Fact[Origin, float], tag: str | None, is_sure: bool
) -> Iterator[Dispute]:
    """Yield what is said of a band beside its `role`: by the `tag` of its colour, or else."""
    others = [other for other in role.others if other[0] != "wavelength"]
    if tag in COLOURS and tag != role.value:
        others.append(("colour interpretation", str(tag)))
    centre = wave.value
    ranges = [(low, high) for name, low, high, _ in _RANGES if name == role.value]
    fits = all(low - NEAR <= (centre or 0) < high + NEAR for low, high in ranges)
    if centre and role.source != "wavelength" and not fits:
        others.append((wave.source or "wavelength", f"{centre:g} nm"))
    others += [(s, f"{w:g} nm") for s, w in wave.others if centre and not _is_near(centre, w)]
    for source, other in others:
        # Grey is GDAL's name for the first of many unknown bands, too.
        if "gray" not in (role.value, other) and source != role.source:
            yield Dispute(number, role.value, role.source, other, source, is_sure)


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
) -> tuple[str, Origin] | None:
    """Return the role of a band that shows no light, by its name, CF attributes or unit."""
    if role := auxiliary_role(name):
        return role, "name"
    if any(key.startswith("flag_") for space in tags.values() for key in space):
        return "quality", "attributes"
    return ("angle", "unit") if unit and unit.lower() in _ANGLES else None


def parse_bands(given: GivenBands, count: int) -> list[GivenBand]:
    """Return what the user says of `count` bands, in order; the user counts them from 1.

    Understood are ``"red=4,green=3,blue=2"``, ``"4,3,2"`` (red, green, blue, then nir),
    ``"red,green,blue,nir"`` (one role per band, in order, ``-`` for none), the same as sequences,
    and a mapping of roles to numbers. A number may have a wavelength in nm (``"red=4@655"``); the
    role ``unknown`` takes that of the file away. Raises `BadParameter`.
    """
    pairs: list[tuple[str, int | str]]
    if isinstance(given, Mapping):
        pairs = [(str(role), number) for role, number in given.items()]
    else:
        items: list[int | str | None]
        items = [p.strip() for p in given.split(",")] if isinstance(given, str) else list(given)
        pairs = _pairs(items)
    found: list[GivenBand] = []
    for role, text in pairs:
        name = {"grey": "gray", "near": "nir", "r": "red", "g": "green", "b": "blue"}.get(
            role, role
        )
        if name not in (*ROLES, UNKNOWN):
            raise BadParameter(
                f"There is no band role {role!r}.", f"Known: {', '.join((*ROLES, UNKNOWN))}."
            )
        number, wavelength = _number(text)
        if not 1 <= number <= count:
            raise BadParameter(
                f"Band {number} does not exist: the image has {count}.",
                "Bands are counted from 1.",
            )
        before = next((band for band in found if band.number == number - 1), None)
        if before is not None:
            raise BadParameter(
                f"Band {number} is given twice, as {before.role or UNKNOWN} and {name}.",
                "Name each band once.",
            )
        found.append(GivenBand(number - 1, None if name == UNKNOWN else name, wavelength))
    return found


def _number(text: int | str) -> tuple[int, float | None]:
    """Return the number and the wavelength in ``4`` and ``"4@655"``."""
    number, at, wavelength = str(text).partition("@")
    try:
        nanometres = float(wavelength) if at else None
        if nanometres is not None and not 0 < nanometres < math.inf:
            raise ValueError
        return int(number), nanometres
    except ValueError:
        raise _not_understood() from None


def bands_text(given: Iterable[GivenBand]) -> str:
    """Return what the user says of bands as text that `parse_bands` takes."""
    return ",".join(
        f"{band.role or UNKNOWN}={band.number + 1}"
        + ("" if band.wavelength is None else f"@{band.wavelength:.10g}")
        for band in given
    )


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


def _pairs(items: Sequence[int | str | None]) -> list[tuple[str, int | str]]:
    try:
        if all(isinstance(i, str) and "=" in i for i in items):
            split = [str(i).split("=", 1) for i in items]
            return [(role.strip().lower(), number) for role, number in split]
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
        raise _not_understood() from None


def _not_understood() -> BadParameter:
    return BadParameter("Bands are not understood.", 'Write them as "red=4,green=3,blue=2".')


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
) -> tuple[Sequence[SensorBand | None], bool]:
    """Return the preset's bands by the names in the file, else by the usual order of `light`.

    The order of a sensor that the user has not named must agree with the `roles` of three bands. The
    second is whether names identify the bands.
    """
    if sensor is None:
        return [None] * len(names), False
    texts = [(name or "").strip() for name in names]
    # By the whole name, or else its first word ("B4, central wavelength …").
    named = [
        (sensor.band(t) or sensor.band(re.split(r"[ ,(:]", t)[0])) if t else None for t in texts
    ]
    if any(named):
        return named, True
    ordered: list[SensorBand | None] = [None] * len(names)
    # A sensor file may list what shows no light, too.
    is_all = sensor.named_by == "file" and len(sensor.bands) == len(names)
    numbers = range(len(names)) if is_all else light
    for number, band in zip(numbers, sensor.of_count(len(numbers)) or (), strict=False):
        ordered[number] = band
    if sensor.named_by == "file" and not any(ordered):
        raise BadParameter(
            f"{sensor.title} has {len(sensor.bands)} bands and the image {len(names)}, none of them "
            "of one name.",
            "List in the sensor file all bands in the image's order, or give them its names.",
        )
    known = [
        (roles[n], band and band.role) for n, band in enumerate(ordered) if n in light and roles[n]
    ]
    agrees = len(known) >= 3 and all(mine == its for mine, its in known)
    if sensor.is_given or agrees or _has_fixed_bands(sensor, len(light)):
        return ordered, False
    return [None] * len(names), False


def _has_fixed_bands(sensor: Sensor | None, count: int) -> bool:
    """Return whether the file is named as a product that has its usual bands, whatever its tags say."""
    # Planet tags its own files of blue, green, red and near infrared as RGB.
    return (
        sensor is not None
        and (sensor.id, sensor.named_by) == ("planet", "name of the file")
        and sensor.of_count(count) is not None
    )


def _wavelengths_of(
    preset: Sequence[SensorBand | None], own: Sequence[float | None], sensor: Sensor | None
) -> list[float | None]:
    """Return the centres of the bands of a sensor that the user names, but those given exactly."""
    if sensor is None or not sensor.is_given:
        return [None] * len(own)
    is_exact = sensor.named_by != "file"
    return [
        None if band is None or (is_exact and _is_near(wave, band.wavelength)) else band.wavelength
        for band, wave in zip(preset, own, strict=True)
    ]


def _is_near(wave: float | None, other: float | None) -> bool:
    """Return whether two wavelengths in nm are of one band."""
    return wave is not None and other is not None and abs(wave - other) <= max(NEAR, 0.02 * wave)
