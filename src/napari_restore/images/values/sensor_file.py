"""Presets of sensors in TOML: those of the program, files of the user's own, and these as one line of text.

The line, an inline table of TOML, is what an image keeps of the file, and what records and commands
have: a file that is changed later changes no run that was made with it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore._json_shapes import closed, mismatches
from napari_restore._plain_files import parse_toml, read_file, read_text
from napari_restore.errors import BadParameter
from napari_restore.images.values.presets import ROLES, NamedBy, Sensor, SensorBand

SUFFIX = ".toml"
LARGEST_FILE = 1 << 16
"""Bytes; fifty of a band are usual."""
_HINT = (
    "A sensor file has a title and a table [[bands]] for each band; see docs/extending/sensor.md."
)


@closed
class BandTable(TypedDict):
    """A band, in the file's order."""

    names: NotRequired[list[str]]
    """As files call it; capitals and small letters are the same."""
    role: NotRequired[str]
    wavelength: NotRequired[float]
    """Nanometres."""


@closed
class SensorTable(TypedDict):
    """A sensor file."""

    title: str
    black: NotRequired[float]
    """Value of zero reflectance."""
    white: NotRequired[float]
    per_unit: NotRequired[float]
    """Reflectance of a unit of integers above `black`, for indices and spectra."""
    bands: list[BandTable]


@cache
def known_sensors() -> Mapping[str, Sensor]:
    """Return the presets of the program by id; see ``sensors.toml``."""
    tables = parse_toml(read_text(Path(__file__).with_name("sensors.toml")))
    return {
        key: _sensor_of({**tables.get(table.get("like"), {}), **table}, key, "user")
        for key, table in tables.items()
    }


def sensor_text(sensor: str | os.PathLike[str]) -> str:
    """Return an id as it is, and the content of a file (``FILE.toml``) as one line; raises `BadParameter`."""
    if isinstance(sensor, str) and not sensor.lower().endswith(SUFFIX):
        return _line(_checked(sensor, "The sensor")) if is_sensor_text(sensor) else sensor
    path = Path(sensor)
    try:
        content = read_file(path, LARGEST_FILE)
    except FileNotFoundError:
        raise BadParameter(f"There is no sensor file {path}.", "Check the path.") from None
    except OSError as error:
        raise BadParameter(f"{path} cannot be read: {error.strerror}.", "Check the file.") from None
    return _line(_checked(content, path.name))


def is_sensor_text(sensor: str) -> bool:
    """Return whether `sensor` is the content of a sensor file, as `sensor_text` returns it."""
    return sensor.lstrip().startswith("{")


def sensor_of_text(text: str) -> Sensor:
    """Return the preset in the text of a sensor file; raises `BadParameter`."""
    return _sensor_of(_checked(text, "The sensor"), "file", "file")


def _sensor_of(table: Mapping[str, Any], key: str, named_by: NamedBy) -> Sensor:
    bands = tuple(
        SensorBand(
            tuple(name.strip().upper() for name in band.get("names", ())),
            band.get("role"),
            band.get("wavelength"),
        )
        for band in table["bands"]
    )
    title, black = table["title"], table.get("black")
    reason = "" if black is None else f"{title}: zero at {black:g}"
    return Sensor(
        key, title, bands, tuple(map(tuple, table.get("orders", ()))), black or 0.0, table.get("white"),
        table.get("reason", reason), named_by, table.get("per_unit"),
    )  # fmt: skip


def _checked(content: str | bytes, name: str) -> SensorTable:
    """Return the tables in the bytes of a file, or in its text of one line."""
    if len(content) > LARGEST_FILE:
        raise BadParameter(f"{name} is larger than {LARGEST_FILE >> 10} KiB.", _HINT)
    try:
        table: Any = (
            parse_toml(f"sensor = {content}")["sensor"]
            if isinstance(content, str)
            else parse_toml(content.decode("utf-8-sig"))
        )
    except ValueError as error:
        raise BadParameter(f"{name} is not TOML: {error}.", _HINT) from None
    problems = mismatches(table, SensorTable, "sensor")
    if not problems:
        problems = [*_problems(table)]
    if problems:
        raise BadParameter(f"{name} is no sensor file: {problems[0]}.", _HINT)
    found: SensorTable = table
    return found


def _problems(table: SensorTable) -> list[str]:
    black, white = table.get("black", 0.0), table.get("white", math.inf)
    found = []
    if white <= black:
        found.append(f"white ({white:g}) must lie above black ({black:g})")
    if table.get("per_unit", 1.0) <= 0:
        found.append(f"per_unit is {table['per_unit']:g}")
    if not table["bands"]:
        found.append("it has no bands")
    known: set[str] = set()
    for number, band in enumerate(table["bands"], start=1):
        role, wavelength = band.get("role"), band.get("wavelength", 1.0)
        if role is not None and role not in ROLES:
            found.append(f"band {number} has the unknown role {role!r}; known: {', '.join(ROLES)}")
        if wavelength <= 0:
            found.append(f"band {number} has the wavelength {wavelength:g}")
        names = {name.strip().upper() for name in band.get("names", ())}
        if twice := known & names:
            found.append(f"two bands are named {min(twice)}")
        known |= names
    return found


def _line(value: object) -> str:
    """Format a value as TOML on one line, in single quotes: shells keep them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_line(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_line, value)) + "]"
    if isinstance(value, str):
        plain = value.isprintable() and "'" not in value
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return f"'{value}'" if plain else text
    return repr(float(value))  # type: ignore[arg-type]
