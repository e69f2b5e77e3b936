"""Fills dataclasses from TOML tables, with one-sentence errors."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from napari_restore.extension import BadParameter, RestoreError, did_you_mean

T = TypeVar("T")

_TYPE_TEXT = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
    Path: "a path in quotes",
}


def fill(kind: type[T], table: Any, where: str, folder: Path) -> T:
    """Create an instance of the dataclass `kind` from a TOML table.

    `where` names the table in messages, as ``[run]``. Relative paths are relative to `folder`. A
    `ValueError` of the class is converted to the same kind of error. A class may have a method
    ``from_toml(value)`` that parses the value of its key.

    Raises
    ------
    BadParameter
        For an unknown key, a missing one, or a value of another type.
    """
    table = table_of(table, where)
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is no dataclass")
    known_fields = {field.name: field for field in fields(kind) if field.init}
    for name in table:
        if name not in known_fields:
            raise BadParameter(
                f"{where} has no key {name!r}.", did_you_mean(name, list(known_fields), "It has")
            )
    hints = get_type_hints(kind)
    values = {}
    for name, field in known_fields.items():
        if name in table:
            values[name] = convert(hints[name], table[name], f"{where} {name}", folder)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BadParameter(f"{where} lacks the key {name!r}.", "Write it there.")
    try:
        return kind(**values)
    except RestoreError as error:
        raise BadParameter(f"{where}: {error.message.marked}", error.hint) from None
    except ValueError as error:
        # The message of the class, as "lr = 0 is too small. Write …", prefixed by the table.
        message, _, hint = str(error).partition(". ")
        raise BadParameter(f"{where} {message.rstrip('.')}.", hint) from None


def table_of(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value` if it is a table; raises `BadParameter`."""
    if not isinstance(value, Mapping):
        raise BadParameter(
            f"{where} is {value!r} and not a table.", f"Write {where} above its keys."
        )
    return value


def check(is_valid: bool, message: str, hint: str) -> None:
    """Raise `ValueError` in the form of `fill` unless `is_valid`."""
    if not is_valid:
        raise ValueError(f"{message}. {hint}")


def check_length(steps: int | None, minutes: float | None) -> None:
    """Raise `ValueError` for an invalid length of a stage."""
    check(steps is None or steps >= 1, f"steps = {steps} is below 1", "Write 1 or more.")
    check(minutes is None or minutes > 0, f"minutes = {minutes} is not above 0", "")


def convert(kind: Any, value: Any, where: str, folder: Path) -> Any:
    """Convert `value` from TOML to the type `kind`; raises `BadParameter`."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(inner, value, where, folder)
    if origin is Literal:
        return _choice(inner, value, where)
    if hasattr(kind, "from_toml"):
        try:
            return kind.from_toml(value)
        except ValueError as error:
            raise BadParameter(f"{where} cannot be {value!r}.", str(error)) from None
    if isinstance(kind, type) and is_dataclass(kind):
        return fill(kind, value, where, folder)
    if origin is tuple:
        return _tuple(inner, value, where, folder)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(inner[1], value, where, folder)
    return _plain(kind, value, where, folder)


def _union(kinds: tuple[Any, ...], value: Any, where: str, folder: Path) -> Any:
    """Convert to the first type that fits; the error is that of the last. None is no TOML value."""
    *others, last = [kind for kind in kinds if kind is not type(None)]
    for kind in others:
        with suppress(BadParameter):
            return convert(kind, value, where, folder)
    return convert(last, value, where, folder)


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices:
        names = ", ".join(str(choice) for choice in choices)
        raise BadParameter(f"{where} cannot be {value!r}.", f"Choose one of {names}.")
    return value


def _mapping(kind: Any, value: Any, where: str, folder: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadParameter(f"{where} is {value!r} and not a table.", "Write { name = value }.")
    return {str(k): convert(kind, v, f"{where} {k}", folder) for k, v in value.items()}


def _tuple(inner: tuple[Any, ...], value: Any, where: str, folder: Path) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadParameter(f"{where} is {value!r} and not a list.", "Write it in [ ].")
    if len(inner) == 2 and inner[1] is Ellipsis:
        kinds = (inner[0],) * len(value)
    else:
        kinds = inner
    if len(kinds) != len(value):
        raise BadParameter(f"{where} has {len(value)} values.", f"It takes {len(kinds)}.")
    return tuple(convert(k, v, where, folder) for k, v in zip(kinds, value, strict=True))


def _plain(kind: Any, value: Any, where: str, folder: Path) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return folder / Path(value).expanduser()
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:
            return float(value)
        raise BadParameter(f"{where} cannot be {value!r}.", "It takes a finite number.")
    if kind in (int, str, bool) and type(value) is kind:
        return value
    words = _TYPE_TEXT.get(kind, f"a {getattr(kind, '__name__', kind)}")
    raise BadParameter(f"{where} cannot be {value!r}.", f"It takes {words}.")
