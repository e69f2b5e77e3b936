"""Files of arrays and tables: written whole or not at all, the same bytes for the same content."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import check_file, read_text
from napari_restore._replacing import replacing
from napari_restore.errors import BadOutput, InputError, UnreadableImage

SEGMENT_COLUMNS = ("label", "pixels", "share", "x", "y")
"""Columns of the table of segments: `x`, `y` is the centre in pixels of the image."""


def mapped_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in a .npy, read as it is used; raises `UnreadableImage`."""
    try:
        check_file(path)
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        why = error.strerror or error
        raise UnreadableImage(f"{path.name} cannot be read: {why}.", "Check its path.") from None
    except (ValueError, EOFError):  # whose texts advise to load Python objects
        raise UnreadableImage(
            f"{path.name} is no array of numbers, or is cut off.", "Write it by np.save."
        ) from None
    return array


Cells = dict[str, str]
"""Of a row, by the name of the column in lower case."""


class Strips(NamedTuple):
    """An array that is written as it is read, from its first row to its last."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    read: Callable[[], Iterator[npt.NDArray[Any]]]
    """Yields its rows, some at a time."""


Arrays: TypeAlias = Mapping[str, "npt.NDArray[Any] | Strips"]


def write_file(target: Path, content: bytes, *, overwrite: bool) -> Path:
    """Write a file whole or not at all; raises `BadOutput`."""
    return write_by(target, lambda file: file.write(content), overwrite=overwrite)


def write_array(target: Path, array: Strips, *, overwrite: bool) -> Path:
    """Write a file of one array (.npy), whole or not at all; raises `BadOutput`."""
    return write_by(target, lambda file: _write_array(file, array), overwrite=overwrite)


def write_arrays(target: Path, arrays: Arrays, *, overwrite: bool) -> Path:
    """Write a file of arrays by name (.npz), whole or not at all; raises `BadOutput`."""

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                # numpy's own files hold the time of writing.
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as part:
                    _write_array(part, array)

    return write_by(target, write, overwrite=overwrite)


def write_by(target: Path, write: Callable[[IO[bytes]], object], *, overwrite: bool) -> Path:
    """Write a file by a function, whole or not at all; raises `BadOutput`."""
    if target.exists() and not overwrite:
        raise BadOutput(f"{target} exists.", "Choose another name, or replace it.")
    try:
        with replacing(target) as part, part.open("wb") as file:
            write(file)
    except OSError as error:
        raise BadOutput(
            f"{target} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from None
    return target


def _write_array(file: IO[bytes], array: npt.NDArray[Any] | Strips) -> None:
    if not isinstance(array, Strips):
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        return
    descr = np.lib.format.dtype_to_descr(np.dtype(array.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in array.read():
        file.write(part.astype(array.dtype, copy=False).tobytes())


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the named columns of rows as CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_rows(path: str | Path, needed: Sequence[str], others: str) -> list[tuple[int, Cells]]:
    """Return the rows of a CSV file with `needed` columns, perhaps `others`, and their lines; raises `InputError`."""
    try:
        text = read_text(path)
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = {str(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        rows = [
            (reader.line_num, {name: str(row[key] or "").strip() for name, key in names.items()})
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        reason = "it is no text" if isinstance(error, UnicodeDecodeError) else reason
        raise InputError(
            f"The table {path} cannot be read: {reason}.", "Name a CSV file."
        ) from None
    for name in needed:
        if name not in names:
            raise InputError(
                f"The table {path} has no column {name}.",
                f"Its first line names the columns: {','.join(needed)} and, optionally, {others}.",
            )
    if not rows:
        raise InputError(f"The table {path} has no rows.", "Give at least one.")
    return rows
