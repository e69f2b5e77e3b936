"""Masks as products ship them: classes, bits and bands of clouds, shadows and the like, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore._plain_files import parse_toml, read_text
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
    words: str = ""
    """Names of its band, and words of names of its files, as a regular expression."""
    sensor: str = ""
    """Begin of the ids of sensors whose band without a name it is; "" for none."""


@cache
def _tables() -> dict[str, Any]:
    return parse_toml(read_text(Path(__file__).with_name("flags.toml")))


@cache
def _products() -> tuple[Flags, ...]:
    return tuple(
        Flags(
            table["title"],
            table["kind"],
            {key: _matches(entry, table["kind"]) for key, entry in table["names"].items()},
            tuple(table.get("bands", ())),
            table["words"],
            table.get("sensor", ""),
        )
        for table in _tables()["products"]
    )


def _matches(entry: Any, kind: str) -> tuple[Match, ...]:
    """Return what a name of ``flags.toml`` means."""
    if isinstance(entry, list):
        return tuple(match for each in entry for match in _matches(each, kind))
    if kind == "values":
        return (Match(entry, entry),)
    if kind == "bands":
        band = entry if isinstance(entry, dict) else {"band": entry, "most": 1}
        return (Match(1, band["most"], None, band["band"]),)
    bits = entry if isinstance(entry, dict) else {"field": [entry, entry], "codes": [1]}
    first, last = bits["field"]
    mask = ((1 << (last - first + 1)) - 1) << first
    return tuple(Match(code << first, code << first, mask) for code in bits["codes"])


def flags_of(name: str | None, sensor: str | None = None) -> Flags | None:
    """Return the product whose band, or file without its suffix, has this name; None for no known.

    A band without a name is that of the `sensor` that the user has named.
    """
    if not name:
        named = sensor or ""
        return next((f for f in _products() if f.sensor and named.startswith(f.sensor)), None)
    # Dots and blanks end words, too: HLS.S30.T33UXP.2024001T101411.v2.0.Fmask.
    text = re.sub(r"[\W_]+", "_", name[:256].upper())
    return next((f for f in _products() if re.search(rf"(?:^|_)(?:{f.words})(?:_|$)", text)), None)


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
            found += _matches(int(item), "bits")
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
    key = _tables()["synonyms"].get(_plain(item), _plain(item))
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
