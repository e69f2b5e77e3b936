"""Masks as products ship them: classes, bits and bands of clouds, shadows and the like, by name.

Sources: USGS Landsat Collection 2 quality assessment bands (QA_PIXEL, SR_CLOUD_QA, SR_QA_AEROSOL);
ESA Sentinel-2 Level-2A product format (SCL) and Level-1C cloud masks (QA60); HLS user guide 2.0
(Fmask); Fmask 4 (Qiu et al. 2019); MODIS surface reflectance user guide, collection 6.1 (state_1km);
Planet imagery product specification (UDM, UDM2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from napari_restore.errors import BadMask, option


class Match(NamedTuple):
    """Which values of a band are meant: those from `low` to `high`, of the bits in `mask` if given."""

    low: float
    high: float
    mask: int | None = None
    band: str | None = None
    """Name of the band where the product has one for each class."""


@dataclass(frozen=True)
class Flags:
    """A band, or bands, of flags of a product."""

    title: str
    kind: str
    """What the numbers of it are: ``values``, ``bits`` or ``bands``."""
    names: Mapping[str, tuple[Match, ...]]
    bands: tuple[str, ...] = ()
    """Names of its bands, in order, where there is one for each class."""


def _values(*numbers: int) -> tuple[Match, ...]:
    return tuple(Match(number, number) for number in numbers)


def _bits(*numbers: int) -> tuple[Match, ...]:
    return tuple(Match(1 << number, 1 << number, 1 << number) for number in numbers)


def _field(first: int, last: int, *codes: int) -> tuple[Match, ...]:
    """Return what has one of `codes` in the bits `first` to `last`."""
    mask = ((1 << (last - first + 1)) - 1) << first
    return tuple(Match(code << first, code << first, mask) for code in codes)


def _bands(*names: str) -> tuple[Match, ...]:
    return tuple(Match(1, 1, None, name) for name in names)


_QA_PIXEL = Flags(
    "Landsat Collection 2 QA_PIXEL",
    "bits",
    {
        "fill": _bits(0), "dilated_cloud": _bits(1), "cirrus": _bits(2), "cloud": _bits(3),
        "shadow": _bits(4), "snow": _bits(5), "clear": _bits(6), "water": _bits(7),
    },
)  # fmt: skip
_CLOUD_QA = Flags(
    "Landsat SR_CLOUD_QA",
    "bits",
    {
        "cloud": _bits(1), "shadow": _bits(2), "adjacent": _bits(3), "snow": _bits(4),
        "water": _bits(5),
    },
)  # fmt: skip
_QA_AEROSOL = Flags(
    "Landsat SR_QA_AEROSOL",
    "bits",
    {"fill": _bits(0), "water": _bits(2), "aerosol_high": _field(6, 7, 3)},
)
_SCL = Flags(
    "Sentinel-2 SCL",
    "values",
    {
        "nodata": _values(0), "saturated": _values(1), "dark": _values(2), "shadow": _values(3),
        "vegetation": _values(4), "bare": _values(5), "water": _values(6),
        "unclassified": _values(7), "cloud": _values(8, 9), "cloud_medium": _values(8),
        "cloud_high": _values(9), "cirrus": _values(10), "snow": _values(11),
    },
)  # fmt: skip
_QA60 = Flags("Sentinel-2 QA60", "bits", {"cloud": _bits(10), "cirrus": _bits(11)})
_HLS_FMASK = Flags(
    "HLS Fmask",
    "bits",
    {
        "cirrus": _bits(0), "cloud": _bits(1), "adjacent": _bits(2), "shadow": _bits(3),
        "snow": _bits(4), "water": _bits(5), "aerosol_high": _field(6, 7, 3),
    },
)  # fmt: skip
_FMASK = Flags(
    "Fmask 4",
    "values",
    {
        "land": _values(0), "water": _values(1), "shadow": _values(2), "snow": _values(3),
        "cloud": _values(4),
    },
)  # fmt: skip
_STATE = Flags(
    "MODIS state",
    "bits",
    {
        "cloud": _field(0, 1, 1), "mixed": _field(0, 1, 2), "shadow": _bits(2),
        "water": _field(3, 5, 0, 3, 5, 6, 7), "aerosol_high": _field(6, 7, 3),
        "cirrus": _field(8, 9, 2, 3), "fire": _bits(11), "snow": _bits(12, 15),
        "adjacent": _bits(13),
    },
)  # fmt: skip
_UDM2 = Flags(
    "Planet UDM2",
    "bands",
    {
        "clear": _bands("clear"), "snow": _bands("snow"), "shadow": _bands("shadow"),
        "light_haze": _bands("light_haze"), "heavy_haze": _bands("heavy_haze"),
        "haze": _bands("light_haze", "heavy_haze"), "cloud": _bands("cloud"),
        "unusable": (Match(1, 255, None, "unusable"),),
    },
    ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "unusable"),
)  # fmt: skip
_UDM = Flags("Planet UDM", "bits", {"fill": _bits(0), "cloud": _bits(1)})

_PRODUCTS = (
    (r"QA_PIXEL", _QA_PIXEL),
    (r"SR_CLOUD_QA", _CLOUD_QA),
    (r"SR_QA_AEROSOL", _QA_AEROSOL),
    (r"SCL", _SCL),
    (r"QA60", _QA60),
    (r"FMASK4|FMASK_4", _FMASK),
    (r"FMASK", _HLS_FMASK),
    (r"STATE_(1KM|500M|QA)(_1)?|SUR_REFL_STATE_500M", _STATE),
    (r"UDM2(_CLIP)?", _UDM2),
    (r"UDM|DN_UDM", _UDM),
)
"""Names of bands, and words of names of files, by product."""
_BY_SENSOR = (("landsat", _QA_PIXEL), ("sentinel2", _SCL), ("hls", _HLS_FMASK), ("modis", _STATE))
"""What a band without a name is, for a sensor that the user has named."""
_SYNONYMS = {
    "clouds": "cloud", "cloud_shadow": "shadow", "cloud_shadows": "shadow", "shadows": "shadow",
    "snow_ice": "snow", "ice": "snow", "thin_cirrus": "cirrus", "no_data": "nodata",
    "haze_light": "light_haze", "haze_heavy": "heavy_haze", "blackfill": "fill",
    "cloud_adjacent": "adjacent", "mixed_cloud": "mixed", "not_vegetated": "bare",
    "cloud_medium_probability": "cloud_medium", "cloud_high_probability": "cloud_high",
}  # fmt: skip


def flags_of(name: str | None, sensor: str | None = None) -> Flags | None:
    """Return the product whose band, or file without its suffix, has this name; None for no known.

    A band without a name is that of the `sensor` that the user has named.
    """
    if not name:
        return next((f for start, f in _BY_SENSOR if (sensor or "").startswith(start)), None)
    # Dots and blanks end words, too: HLS.S30.T33UXP.2024001T101411.v2.0.Fmask.
    text = re.sub(r"[\W_]+", "_", name[:256].upper())
    found = ((re.search(rf"(?:^|_)(?:{words})(?:_|$)", text), each) for words, each in _PRODUCTS)
    return next((each for match, each in found if match), None)


def band_named(name: str, names: Sequence[str | None]) -> int | None:
    """Return the number, from 0, of the band that `name` means: a number from 1, or one of `names`."""
    if re.fullmatch(r"\d{1,5}", name):
        number = int(name) - 1
        return number if 0 <= number < len(names) else None
    wanted = _plain(name)
    return next((n for n, each in enumerate(names) if each and _plain(each) == wanted), None)


def matches_of(
    flags: Flags | None, name: str, *, values: str | None, bits: str | None
) -> tuple[Match, ...]:
    """Return which values of the raster `name` are chosen by lists of numbers and names.

    Raises `BadMask` for a name that its product has not, and what is no number.
    """
    found: list[Match] = []
    for item in _items(values):
        given = re.fullmatch(rf"({_NUMBER})(?:\.\.({_NUMBER}))?", item)
        if given is not None:
            found.append(Match(float(given[1]), float(given[2] or given[1])))
        else:
            found += _named(item, flags, name, "exclude_values", "3,8,9")
    for item in _items(bits):
        if re.fullmatch(r"\d{1,2}", item) and int(item) < 64:
            if flags is not None and flags.kind == "bands":
                raise BadMask(
                    f"{name} has bands and no bits.", _those_of(flags, "exclude_bits", "")
                )
            found += _bits(int(item))
        else:
            found += _named(item, flags, name, "exclude_bits", "3,4")
    return tuple(dict.fromkeys(found))


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def _items(text: str | None) -> list[str]:
    if text is None:
        return []
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise BadMask(f"{text!r} is no list of values or bits.", "Write for instance 3,8,9.")
    return items


def _named(
    item: str, flags: Flags | None, name: str, asked: str, example: str
) -> tuple[Match, ...]:
    key = _SYNONYMS.get(_plain(item), _plain(item))
    if flags is None:
        raise BadMask(
            f"What {item!r} is in {name} is not known: neither its name nor its band's is that of a "
            "known product.",
            f"Write numbers, for instance {option(asked, example)}.",
        )
    if key not in flags.names:
        raise BadMask(f"{flags.title} has no {item!r}.", _those_of(flags, asked, example))
    return flags.names[key]


def _those_of(flags: Flags, asked: str, example: str) -> str:
    more = f", or write numbers: {option(asked, example)}" if example else ""
    return f"Choose among {', '.join(flags.names)}{more}."


def _plain(name: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", name.lower()))


def needed_bands(matches: Iterable[Match]) -> tuple[str, ...]:
    """Return the names of the bands that `matches` read; none where it is any one band."""
    return tuple(dict.fromkeys(match.band for match in matches if match.band is not None))
