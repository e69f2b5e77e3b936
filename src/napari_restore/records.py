"""The JSON account of a run: what was done, with what, and what it cost.

The typed dictionaries below are the format; `problems` checks a record against
them. Names are snake case, units SI, sizes in bytes, boxes [y0, x0, y1, x1].
Keys that are not named here may be present and are kept.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from napari_restore.errors import CONTROLS, BadOutput, DiskFull, InputError

__all__ = [
    "Record",
    "Table",
    "check_file",
    "check_record",
    "problems",
    "read_account",
    "read_record",
    "strict_json",
    "write_json",
    "write_record",
    "write_text",
]


class Input(TypedDict):
    """The image a run read."""

    path: str | None
    """None for an array."""
    fingerprint: str
    size: list[int]
    """[height, width] in pixels."""
    bands: int
    dtype: str
    crs: str | None
    black: list[float] | None
    """The value of each band that the model saw as 0."""
    white: float | None
    """The value that the model saw as 1."""


class Output(TypedDict):
    """The file a run wrote."""

    path: str | None
    sha256: str | None


class Model(TypedDict):
    """The method and all its parameter values."""

    id: str
    weights_sha256: str | None
    parameters: dict[str, Any]


class Target(TypedDict):
    """What was restored."""

    region: list[int]
    """[y0, x0, y1, x1], half open."""
    mask: NotRequired[str | None]


class Adjustment(TypedDict):
    """How the restored pixels were applied to the source."""

    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float


class PlanFacts(TypedDict):
    """How it was done, and what that was predicted to take."""

    scope: str
    tile: int
    halo: int
    tile_batch: int
    tiles: int
    passes: int
    residual_tier: str | None
    residual_bytes: int
    predicted_peak_ram_bytes: int
    predicted_peak_device_bytes: int
    predicted_disk_bytes: int
    predicted_seconds: float | None


class Measured(TypedDict):
    """What it took."""

    seconds: float
    """From the start of the command, or of the run, until the file has its name."""
    run_seconds: NotRequired[float]
    """What of it the pixels took, without loading, planning and writing."""
    megapixels_per_second: float
    """Of `run_seconds`."""
    peak_ram_bytes: int
    """Unique set size summed over the process tree, idle part included."""
    peak_device_bytes: int
    tiles_done: int
    tiles_resumed: int
    backoffs: int
    unchanged_share: float | None
    """Share of the valid pixels that the model left as they were."""


class Record(TypedDict):
    """One run, in enough detail to repeat it."""

    command: str
    version: str
    status: Literal["done", "cancelled", "failed"]
    input: Input
    output: Output | None
    model: Model
    targets: list[Target]
    adjustment: NotRequired[Adjustment]
    extent: Literal["image", "region"]
    context: dict[str, Any] | None
    plan: PlanFacts
    measured: Measured
    device: str
    versions: dict[str, str]
    notes: NotRequired[list[str]]
    """What the user was told about this run."""


class Table(TypedDict):
    """Many questions in one account, in enough detail to ask them all again."""

    version: str
    status: Literal["done", "cancelled"]
    task: NotRequired[dict[str, Any] | None]
    """Images, models and places; None where some lie in no file."""
    question: dict[str, Any]
    """The options that all were asked with."""
    rows: list[dict[str, Any]]
    """One for each image, place and model."""
    summary: dict[str, Any]
    device: str
    versions: dict[str, str]


def problems(record: object) -> list[str]:
    """What is missing or of the wrong type, one phrase each; empty for a good record."""
    return _mismatches(record, Record, "record")


def strict_json(data: Any, indent: int | None = None) -> str:
    """`data` as JSON that every parser takes, whatever it holds.

    JSON has no word for NaN and infinity: they become the texts "nan", "inf" and
    "-inf". What JSON does not know at all becomes its text. Control characters, which a
    terminal would obey, and bytes of names that are not UTF-8 are escaped.
    """
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False, allow_nan=False)
    # Lines end only between the values: within them they are escaped already.
    return CONTROLS.sub(lambda m: m[0] if m[0] == "\n" else json.dumps(m[0])[1:-1], text)


def _plain(data: Any) -> Any:
    if data is None or isinstance(data, (str, bool, int)):
        return data
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else str(float(data))
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [_plain(value) for value in data]
    if callable(getattr(data, "tolist", None)):  # numbers and arrays of numpy
        return _plain(data.tolist())
    return str(data)


def check_record(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out before any work whether a record can be written to `path`.

    Raises `BadOutput` if it exists without `overwrite` or its folder is missing or
    may not be written.
    """
    check_file(Path(path), "record", "--record", overwrite=overwrite)


def check_file(target: Path, what: str, option: str, *, overwrite: bool = False) -> None:
    """Find out before any work whether a file can be written, as `check_record`.

    `what` it is and the `option` that names it are for the error.
    """
    if target.is_dir():
        raise BadOutput(f"The {what} {target} is a folder.", f"Name a file after {option}.")
    if target.exists() and not target.is_file():
        raise BadOutput(
            f"The {what} {target} is a device or a pipe.", f"Name a file after {option}."
        )
    if not overwrite and (target.exists() or target.is_symlink()):
        raise BadOutput(
            f"The {what} {target} exists.", "Add --overwrite to replace it, or choose another name."
        )
    try:
        # Only trying tells: nothing else knows of Windows' rights or read-only disks.
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise _unwritable(target, what, error) from None


def write_record(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write `record` as JSON; the file appears whole or not at all.

    Raises `BadOutput` when the folder is missing or may not be written, `DiskFull`, and
    `ValueError` when the record is not one.
    """
    if wrong := problems(record):
        raise ValueError(f"not a record: {'; '.join(wrong)}")
    target = Path(path)
    try:
        write_json(target, record)
    except OSError as error:
        raise _unwritable(target, "record", error) from None
    return target


def write_json(path: Path, data: Any) -> None:
    """Write `data` as `strict_json`; the file appears whole or not at all. Raises `OSError`."""
    write_text(path, strict_json(data, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; the file appears whole or not at all. Raises `OSError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _unwritable(target: Path, what: str, error: OSError) -> BadOutput | DiskFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No space left for the {what} {target}.", "Free some, or name another.")
    return BadOutput(
        f"The {what} {target} cannot be written: {error.strerror or error}.",
        "Name a file in a folder that exists and may be written.",
    )


def read_record(path: str | os.PathLike[str]) -> Record:
    """The record in the JSON file `path`; raises `InputError` when it holds none."""
    return cast("Record", _checked(path, _read_json(path), Record))


def read_account(path: str | os.PathLike[str]) -> Record | Table:
    """The record in the JSON file `path`, or the table; raises `InputError` when it holds neither."""
    told = _read_json(path)
    is_table = isinstance(told, Mapping) and "rows" in told
    return cast("Record | Table", _checked(path, told, Table if is_table else Record))


def _read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The record {path} cannot be read: {error.strerror or error}.",
            "Name the file that --record wrote.",
        ) from None
    except ValueError:
        raise InputError(f"{path} is not JSON.", "Name the file that --record wrote.") from None


def _checked(path: str | os.PathLike[str], record: Any, kind: Any) -> Any:
    """`record` if it is of a `kind` of record; raises `InputError`."""
    if wrong := _mismatches(record, kind, "record"):
        raise InputError(
            f"{path} is not a record of a run: {wrong[0]}.", "Name the file that --record wrote."
        )
    return record


def _mismatches(value: object, hint: Any, name: str) -> list[str]:
    """Where `value` differs from the type `hint`; `name` says where we are."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return []
    if origin is NotRequired:
        return _mismatches(value, arguments[0], name)
    if origin in (Union, types.UnionType):
        branches = [_mismatches(value, branch, name) for branch in arguments]
        return [] if [] in branches else max(branches, key=len)
    if origin is Literal:
        return [] if value in arguments else [f"{name} is {value!r}, not one of {arguments}"]
    if is_typeddict(hint):
        return _missing_or_wrong(value, hint, name)
    if origin is list:
        if not isinstance(value, list):
            return [f"{name} is not a list"]
        found = [_mismatches(v, arguments[0], f"{name}[{i}]") for i, v in enumerate(value)]
        return [problem for some in found for problem in some]
    if origin is dict:
        if not isinstance(value, Mapping):
            return [f"{name} is not an object"]
        found = [_mismatches(v, arguments[1], f"{name}.{k}") for k, v in value.items()]
        return [problem for some in found for problem in some]
    return [] if _is(value, hint) else [f"{name} is {value!r}, not {_word(hint)}"]


def _missing_or_wrong(value: object, hint: Any, name: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{name} is not an object"]
    found = []
    for key, kind in get_type_hints(hint, include_extras=True).items():
        if key in value:
            found += _mismatches(value[key], kind, f"{name}.{key}")
        elif get_origin(kind) is not NotRequired:
            found.append(f"{name}.{key} is missing")
    return found


def _is(value: object, kind: Any) -> bool:
    """Whether `value` is of `kind` as JSON sees it: True is no number, 1 is a float, NaN is not."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, kind)


def _word(kind: Any) -> str:
    words = {int: "a whole number", float: "a finite number", str: "text", type(None): "null"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))
