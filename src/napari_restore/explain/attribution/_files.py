"""Files of arrays and tables: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import replacing
from napari_restore.errors import BadOutput, UnreadableImage

SEGMENT_COLUMNS = ("label", "pixels", "share", "x", "y")
"""Columns of the table of segments: `x`, `y` is the centre in pixels of the image."""


def mapped_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in a .npy, read as it is used; raises `UnreadableImage`."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        why = error.strerror or error
        raise UnreadableImage(f"{path.name} cannot be read: {why}.", "Check its path.") from None
    except (ValueError, EOFError):  # whose texts advise to load Python objects
        raise UnreadableImage(
            f"{path.name} is no array of numbers, or is cut off.", "Write it by np.save."
        ) from None
    return array


def write_file(target: Path, content: bytes, *, overwrite: bool) -> Path:
    """Write a file whole or not at all; raises `BadOutput`."""
    if target.exists() and not overwrite:
        raise BadOutput(f"{target} exists.", "Choose another name, or replace it.")
    try:
        with replacing(target) as part:
            part.write_bytes(content)
    except OSError as error:
        raise BadOutput(
            f"{target} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from None
    return target


def zipped(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return a file that `np.load` reads (.npz)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # numpy's own files hold the time of writing.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return content.getvalue()


def one_array(array: npt.NDArray[Any]) -> bytes:
    """Return a file of one array (.npy)."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
    return content.getvalue()


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of segments as CSV, the largest magnitude first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SEGMENT_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: -abs(row["share"])))
    return text.getvalue()
