"""Roles of an image's bands.

Determined in this order: the user's option, colour interpretation, descriptions, wavelengths, the
sensor preset. A role that none of them gives stays unknown: a silent 1, 2, 3 would take blue for
red in many a satellite file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from napari_restore.errors import BadParameter
from napari_restore.images.values._sensors import Sensor, SensorBand

_T = TypeVar("_T")
Bands = str | Sequence[int | str | None] | Mapping[str, int]

ROLES = (
    "red", "green", "blue", "nir", "rededge", "swir", "coastal", "cirrus", "thermal", "pan",
    "gray", "alpha",
)  # fmt: skip

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


class BandRoles(NamedTuple):
    """Role and wavelength in nm per band."""

    roles: tuple[str | None, ...]
    wavelengths: tuple[float | None, ...]


def resolve_roles(
    count: int,
    colorinterp: Sequence[str] = (),
    descriptions: Sequence[str | None] = (),
    wavelengths: Sequence[float | None] = (),
    sensor: Sensor | None = None,
    given: Bands | None = None,
) -> BandRoles:
    """Return the roles of `count` bands; see the module for the order of the sources."""
    interp = _padded(colorinterp, count)
    names = _padded(descriptions, count)
    waves = [
        w or _wavelength_in(n) for w, n in zip(_padded(wavelengths, count), names, strict=True)
    ]
    preset = _preset(sensor, names, count)
    roles: list[str | None] = [_FROM_INTERPRETATION.get(i or "") for i in interp]
    if count - roles.count("alpha") == 1:
        # Grey is GDAL's name for the first of many unknown bands, too.
        roles = ["gray" if i == "gray" else r for i, r in zip(interp, roles, strict=True)]
    for source in (
        [role_of_description(name) for name in names],
        _roles_of_wavelengths(waves),
        [band.role if band else None for band in preset],
    ):
        roles = [known or new for known, new in zip(roles, source, strict=True)]
    if given is not None:
        roles = list(named_roles(roles, parse_bands(given, count)))
    waves = [
        w or (band.wavelength if band else None) for w, band in zip(waves, preset, strict=True)
    ]
    return BandRoles(tuple(roles), tuple(waves))


def parse_bands(given: Bands, count: int) -> dict[str, int]:
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


def named_roles(roles: Sequence[str | None], given: Mapping[str, int]) -> tuple[str | None, ...]:
    """Return `roles` with the user's; a role given to one band is removed from the others."""
    kept = [None if role in given else role for role in roles]
    for role, band in given.items():
        kept[band] = role
    return tuple(kept)


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
    sensor: Sensor | None, names: Sequence[str | None], count: int
) -> Sequence[SensorBand | None]:
    """Return the preset's bands by the names in the file, else by the usual order."""
    if sensor is None:
        return [None] * count
    named = [sensor.band(re.split(r"[ ,(:]", name.strip())[0]) if name else None for name in names]
    if any(named):
        return named
    return sensor.of_count(count) or [None] * count
