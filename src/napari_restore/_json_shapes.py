"""JSON files of a known shape: read strictly, and checked key by key against types."""

from __future__ import annotations

import json
import math
import reprlib
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

CLOSED = "no other keys"
"""Of a typed dictionary: keys that it does not name are refused."""
FOUR = 4
"""Of a list: how many items it has, as the box [y0, x0, y1, x1]."""
LARGEST_FILE = 256 << 20
LARGEST_NUMBER = 2**63
_WORDS = {int: "a whole number", float: "a finite number", str: "text", type(None): "null"}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises `OSError`, and `ValueError` with what is wrong: no UTF-8, no JSON, a key that stands
    twice, NaN or infinity, nesting too deep, more than `LARGEST_FILE` bytes, no plain file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no plain file")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE >> 20} MiB")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """What JSON text holds; raises `ValueError` as `read_json` does."""
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {_SHORT.repr(twice)} stands twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def mismatches(value: object, hint: Any, name: str) -> list[str]:
    """Where `value`, as JSON gives it, differs from the type `hint`: one phrase for each place.

    `hint` is made of typed dictionaries, dataclasses (of which all keys must be known), lists, dictionaries, unions,
    literals, and plain types. ``Annotated[…, CLOSED]`` refuses unknown keys, ``Annotated[…, 4]``
    lists of another length. `name` is what the value is called.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _odd_texts(value, name)
    if origin is Annotated:
        found = mismatches(value, arguments[0], name)
        return found or _beyond(value, arguments[0], arguments[1], name)
    if origin in (NotRequired, Required):
        return mismatches(value, arguments[0], name)
    if origin in (Union, types.UnionType):
        branches = [mismatches(value, branch, name) for branch in arguments]
        # The branch that fits best in kind says most: of an object, what is wrong within it.
        return [] if [] in branches else max(branches, key=lambda found: _depth(found, name))
    if origin is Literal:
        return (
            []
            if value in arguments
            else [f"{name} is {_SHORT.repr(value)}, not one of {arguments}"]
        )
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        # As it was declared: what is NotRequired besides is found in the types themselves.
        needed = hint.__required_keys__
        return _of_object(value, hints, needed, name)
    if is_dataclass(hint):
        return _of_dataclass(value, hint, name)
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            return [f"{name} is not a list"]
        return [
            phrase
            for number, item in enumerate(value)
            for phrase in mismatches(item, arguments[0], f"{name}[{number}]")
        ]
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return [f"{name} is not an object"]
        return [
            phrase
            for key, item in value.items()
            for phrase in (
                *_odd_texts(key, f"a key of {name}"),
                *mismatches(item, arguments[1], f"{name}.{key}"),
            )
        ]
    return [] if _is(value, hint) else [f"{name} is {_SHORT.repr(value)}, not {_word(hint)}"]


def _depth(found: list[str], name: str) -> tuple[int, int]:
    return max(phrase.count(".", 0, phrase.find(" is ")) for phrase in found), len(found)


def _of_object(
    value: object, hints: Mapping[str, Any], needed: Collection[str], name: str
) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{name} is not an object"]
    found = []
    for key, kind in hints.items():
        if key in value:
            found += mismatches(value[key], kind, f"{name}.{key}")
        elif get_origin(kind) is Required or (
            key in needed and get_origin(kind) is not NotRequired
        ):
            found.append(f"{name}.{key} is missing")
    for key in value.keys() - hints.keys():
        found += [*_odd_texts(key, f"a key of {name}"), *_odd_texts(value[key], f"{name}.{key}")]
    return found


def _of_dataclass(value: object, kind: Any, name: str) -> list[str]:
    if isinstance(value, kind):
        return []
    hints = get_type_hints(kind, include_extras=True)
    needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    return _of_object(value, hints, needed, name) or _unknown(value, hints, name)


def _beyond(value: Any, hint: Any, limit: Any, name: str) -> list[str]:
    if isinstance(limit, int):
        return [] if len(value) == limit else [f"{name} has {len(value)} items, not {limit}"]
    return _unknown(value, get_type_hints(hint), name)


def _unknown(value: Any, hints: Mapping[str, Any], name: str) -> list[str]:
    return [
        f"{name} has the unknown key {_SHORT.repr(key)}" for key in sorted(value.keys() - hints)
    ]


def _odd_texts(value: Any, name: str) -> list[str]:
    """Where a tree has text that no file and no terminal takes, or numbers of no machine."""
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        kind = type(value) if isinstance(value, (str, int, float)) else None
        good = kind is None or _is(value, kind)
        return [] if good else [f"{name} is {_SHORT.repr(value)}, which is refused"]
    return next((found for item in inner if (found := _odd_texts(item, name))), [])


def _is(value: object, kind: Any) -> bool:
    """Whether `value` is of `kind` as JSON sees it: True is no number, 1 is a float, NaN is not."""
    if isinstance(value, bool):
        return kind is bool
    if kind in (int, float):
        if isinstance(value, Integral):
            return -LARGEST_NUMBER <= int(value) < LARGEST_NUMBER
        return kind is float and isinstance(value, Real) and math.isfinite(value)
    if kind is str and isinstance(value, str):
        return "\0" not in value and _is_name(value)
    return isinstance(value, kind)


def _is_name(text: str) -> bool:
    """Whether it could be the name of a file, whose bytes need not be UTF-8."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _word(kind: Any) -> str:
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
