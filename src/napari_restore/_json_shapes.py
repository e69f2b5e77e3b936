"""JSON files of a known shape: read strictly, and validated against types by pydantic."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_restore._plain_files import read_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Kind = TypeVar("Kind")
LARGEST_FILE = 256 << 20
MOST_PROBLEMS = 1000
"""Most mismatches that are listed one by one: each takes a kilobyte."""
_INT64 = range(-(2**63), 2**63)
_NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""NUL, and surrogates that stand for no byte of a file name (surrogateescape)."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises `OSError` as `read_file`, also for more than `LARGEST_FILE` bytes, and `ValueError` with the
    cause: no UTF-8, no JSON, a duplicate key, NaN or infinity, nesting too deep.
    """
    return parse_json(read_file(path, LARGEST_FILE))


def parse_json(text: str | bytes) -> Any:
    """Return the content of JSON text; raises `ValueError` as `read_json` does."""
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
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {_SHORT.repr(twice)} stands twice")
    return mapping


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def closed(kind: Kind) -> Kind:
    """Refuse keys that a typed dictionary or dataclass does not name."""
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return kind


def mismatches(value: object, kind: Any, name: str) -> list[str]:
    """List the positions where `value`, as JSON gives it, differs from the type `kind`, as phrases.

    Parts of type `Any` are checked by `_refused` as well. `name` is the name of the value.
    """
    from pydantic import ValidationError  # here, as it would make every start slow

    try:
        if refused := next(_refused(value, name), None):
            return [refused]
        text = json.dumps(value, ensure_ascii=False, default=_plain)
        # "?" stands for bytes of file names that are not UTF-8: only types are checked.
        _adapter(kind).validate_json(text.encode("utf-8", "replace"), strict=True)
    except RecursionError:
        return [f"{name} is nested too deeply"]
    except ValidationError as error:
        if error.error_count() > MOST_PROBLEMS:
            return [f"{name} differs in {error.error_count()} places"]
        # The branch of a union that fits furthest is the most informative.
        problems = sorted(error.errors(), key=lambda problem: -len(problem["loc"]))
        return list(dict.fromkeys(phrase_of(value, problem, name) for problem in problems))
    return []


def json_of(value: object, kind: Any) -> Any:
    """Return what JSON has of a value of type `kind`: a dataclass, an enumeration, a mapping."""
    return _adapter(kind).dump_python(value, mode="json")


def value_of(content: object, kind: Any) -> Any:
    """Return the value of type `kind` of which `json_of` gave the content; raises `ValueError`."""
    return _adapter(kind).validate_json(json.dumps(content))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    """Return the JSON equivalent of a number or array of numpy, a mapping or a dataclass."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else getattr(value, "__dict__", str(value))


def _refused(value: object, name: str) -> Iterator[str]:
    """Yield text that no file and no terminal accepts, and numbers beyond 64 bits."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _refused(key, f"a key of {name}")
            yield from _refused(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _refused(item, f"{name}[{number}]")
    elif isinstance(value, str) and _NO_TEXT.search(value):
        yield f"{name} is {_SHORT.repr(value)}, which is refused"
    elif isinstance(value, Real) and not (
        int(value) in _INT64 if isinstance(value, Integral) else math.isfinite(value)
    ):
        yield f"{name} is {_SHORT.repr(value)}, not a finite number of 64 bits"


def phrase_of(value: Any, problem: ErrorDetails, name: str) -> str:
    """Return pydantic's message, with its position in `value`."""
    for step in problem["loc"]:
        if isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value):
            value, name = value[step], f"{name}[{step}]"
        elif isinstance(value, Mapping) and step in value:
            value, name = value[step], f"{name}.{step}"
        # Else it is a missing key, or the name of a union's branch.
    if problem["type"] == "missing":
        return f"{name}.{problem['loc'][-1]} is missing"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} is an unknown key"
    message = re.sub("^(Input|List)", "it", problem["msg"])
    return f"{name} is {_SHORT.repr(value)}, but {message}"
