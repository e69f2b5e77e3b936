"""Records: JSON files on a run, its inputs, settings and costs.

The typed dictionaries of `_shapes` are the format; `problems` validates a record. Names are snake case, units SI, sizes in bytes, boxes [y0, x0, y1, x1].
Other keys may be present and are preserved.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from napari_restore._addresses import without_queries
from napari_restore._json_shapes import mismatches, read_json
from napari_restore._replacing import replacing
from napari_restore.errors import CONTROLS, BadOutput, DiskFull, InputError, is_disk_full, option
from napari_restore.records._shapes import (
    AttentionRecord,
    AttributionRecord,
    Record,
    RecordedTask,
    Table,
)

IN_MEMORY = "<record>"
"""In place of the path of a record that is in no file."""

__all__ = [
    "IN_MEMORY",
    "Record",
    "RecordedTask",
    "Table",
    "check_file",
    "check_record",
    "problems",
    "read_any_record",
    "read_json",
    "read_record",
    "strict_json",
    "write_json",
    "write_record",
    "write_text",
]


def problems(record: object) -> list[str]:
    """Return what is missing or of the wrong type, one phrase each; empty for a valid record."""
    return mismatches(record, Record if _kind_of(record) is Table else _kind_of(record), "record")


def strict_json(data: Any, indent: int | None = None) -> str:
    """Serialise `data` as strictly valid JSON.

    NaN and infinity become the strings "nan", "inf" and "-inf"; other types become their string.
    Control characters, which a terminal would interpret, and bytes of names that are not UTF-8 are
    escaped. Addresses lose their queries, which may be signatures.
    """
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False, allow_nan=False)
    text = without_queries(text)
    # Newlines occur only between values: within them they are escaped already.
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
    """Check before the run whether a record can be written to `path`.

    Raises `BadOutput` if it exists without `overwrite` or its folder is missing or
    may not be written.
    """
    check_file(Path(path), "record", option("write_record()"), overwrite=overwrite)


def check_file(target: Path, what: str, named_by: str, *, overwrite: bool = False) -> None:
    """Check before the run whether a file can be written, as `check_record`.

    `what` describes the file, and `named_by` is the marked option that names it, for the message.
    """
    if target.is_dir():
        raise BadOutput(f"The {what} {target} is a folder.", f"Name a file after {named_by}.")
    if target.exists() and not target.is_file():
        raise BadOutput(
            f"The {what} {target} is a device or a pipe.", f"Name a file after {named_by}."
        )
    if not overwrite and (target.exists() or target.is_symlink()):
        raise BadOutput(
            f"The {what} {target} exists.",
            f"Add {option('overwrite', True)} to replace it, or choose another name.",
        )
    try:
        # Only an attempt is reliable for Windows permissions and read-only disks.
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise _unwritable(target, what, error) from None


def write_record(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write `record` as JSON, atomically.

    Raises `BadOutput` when the folder is missing or may not be written, `DiskFull`, and
    `ValueError` for an invalid record.
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
    """Write `data` as `strict_json`, atomically. Raises `OSError`."""
    write_text(path, strict_json(data, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, atomically. Raises `OSError`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _unwritable(target: Path, what: str, error: OSError) -> BadOutput | DiskFull:
    if is_disk_full(error):
        return DiskFull(f"No space left for the {what} {target}.", "Free some, or name another.")
    return BadOutput(
        f"The {what} {target} cannot be written: {error.strerror or error}.",
        "Name a file in a folder that exists and may be written.",
    )


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read the record in the JSON file `path`; raises `InputError` if it is none."""
    record = _read_json(path)
    kind = Record if _kind_of(record) is Table else _kind_of(record)
    return cast("Record", _checked(path, record, kind))


def read_any_record(path: str | os.PathLike[str] | Mapping[str, Any]) -> Record | Table:
    """Read the record or table in the JSON file `path`, or check one that is in memory.

    Raises `InputError` if it is neither.
    """
    if isinstance(path, Mapping):
        record, path = json.loads(strict_json(path)), IN_MEMORY
    else:
        record = _read_json(path)
    return cast("Record | Table", _checked(path, record, _kind_of(record)))


def _read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return read_json(Path(path))
    except (OSError, ValueError) as error:
        no_json = f"is not JSON: {error}"
        why = (
            f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else no_json
        )
        raise InputError(
            f"The record {path} {why}.", f"Name the file that {option('write_record()')} wrote."
        ) from None


def _kind_of(record: Any) -> Any:
    """Return the format of a record by its keys; that of a single run by default."""
    keys = record if isinstance(record, Mapping) else ()
    if "rows" in keys:
        return Table
    if "attention" in keys:
        return AttentionRecord
    return AttributionRecord if "attribution" in keys else Record


def _checked(path: str | os.PathLike[str], record: Any, kind: Any) -> Any:
    """Return `record` if it has the format `kind`; raises `InputError`."""
    if wrong := mismatches(record, kind, "record"):
        raise InputError(
            f"{path} is not a record of a run: {wrong[0]}.",
            f"Name the file that {option('write_record()')} wrote.",
        )
    return record
