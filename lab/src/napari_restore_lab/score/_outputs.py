"""The files of an evaluation."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_restore.extension import (
    BadOutput,
    DiskFull,
    is_disk_full,
    option,
    read_json,
    write_json,
)
from napari_restore_lab._replacing import replacing
from napari_restore_lab.score._journal import NAME as JOURNAL
from napari_restore_lab.score._methods import INPUT
from napari_restore_lab.score._strips import CLEAR, Previews, file_name, select_extremes
from napari_restore_lab.score._tables import csv_table

CSV, SUMMARY, STRIPS, PREVIEWS, WORK = (
    "scores.csv",
    "summary.json",
    "strips",
    "previews",
    "work",
)
"""Names in the output folder; those of the last three are folders, `work` is removed at the end."""
ALL = -1
"""Number of strips that means one for every image."""


@dataclass(frozen=True)
class ImageStrip:
    """Images to show beside each other."""

    place: tuple[str, str]
    """Group and image."""
    name: str
    """File name."""
    columns: Sequence[tuple[str, str, str]]
    """As for `Previews.strip`."""


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Create the output folder. Raises `BadOutput` if it cannot be written or has other scores.

    Scores of an earlier evaluation, recognised by its journal, may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise BadOutput(f"{folder} is a file.", f"Name a folder after {option('output')}.")
    there = [name for name in (CSV, SUMMARY) if (folder / name).exists()]
    if there and not overwrite and not (folder / JOURNAL).is_file():
        raise BadOutput(
            f"{folder / there[0]} exists and is not from an evaluation.",
            f"Add {option('overwrite', True)} to replace it, or choose another folder.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Only an attempt is reliable for permissions and read-only disks.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadOutput(
            f"The folder {folder} cannot be written: {error.strerror or error}.",
            f"Name another after {option('output')}.",
        ) from None


def write_outputs(
    folder: Path, summary: Mapping[str, Any], previews: Previews, planned: Sequence[ImageStrip]
) -> dict[str, Any]:
    """Write scores.csv, strips and last summary.json; return the summary."""
    evaluation = summary["evaluation"]
    try:
        kinds = {method["label"]: method["kind"] for method in evaluation["methods"]}
        _write(folder / CSV, csv_table(evaluation, kinds))
        names = _write_strips(folder, previews, planned)
        complete = {**summary, "strips": names}
        write_json(folder / SUMMARY, complete)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No space is left for {folder}.", "Free some, then continue.") from None
        raise BadOutput(
            f"{error.filename or folder} cannot be written: {error.strerror or error}.",
            f"Name another folder after {option('output')}.",
        ) from None
    return complete


def strips_of(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], count: int
) -> list[ImageStrip]:
    """Return strips of the `count` worst, median and best images of the first model, or `ALL`."""
    known = {(row["group"], row["image"], row["method"]): row for row in rows}
    clear = {(row["group"], row["image"]): str(row["scene"]) for row in rows}
    found = []
    for place, word in _places(evaluation, count).items():
        image = _by_place(evaluation)[place]
        columns = []
        for column in _columns(evaluation):
            if (row := known.get((*place, column))) is not None:
                columns.append((column, str(row["key"]), _column_text(image, column)))
        columns.append((CLEAR, clear[place], CLEAR))
        name = "_".join(filter(None, (word, file_name(*place)))) + ".jpg"
        found.append(ImageStrip(place, name, columns))
    return found


def _write_strips(folder: Path, previews: Previews, planned: Sequence[ImageStrip]) -> list[str]:
    """Write the strips, return their names, and remove those of the previous evaluation."""
    made = [
        strip.name
        for strip in planned
        if previews.strip(*strip.place, strip.columns, folder / STRIPS / strip.name)
    ]
    try:
        before = read_json(folder / SUMMARY)["strips"]
        old = {str(name) for name in before}
    except (OSError, ValueError, KeyError, TypeError):
        old = set()
    for name in old - set(made):
        if Path(name).name == name:
            (folder / STRIPS / name).unlink(missing_ok=True)
    return made


def _places(evaluation: Mapping[str, Any], strips: int) -> dict[tuple[str, str], str]:
    images = _by_place(evaluation)
    if strips == ALL:
        return dict.fromkeys(images, "")
    main = _main(evaluation)
    name, metric = next(iter(evaluation["metrics"].items()))
    sign = 1 if metric["higher_is_better"] else -1
    values = {
        place: sign * image["methods"][main][name]
        for place, image in images.items()
        if main in image["methods"]
    }
    return select_extremes(values, strips)


def _by_place(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(image["group"], image["image"]): image for image in evaluation["images"]}


def _main(evaluation: Mapping[str, Any]) -> str:
    """Return the method that ranks images: the first model."""
    models = [m["label"] for m in evaluation["methods"] if m["kind"] == "model"]
    return str((models or [evaluation["classical"] or INPUT])[0])


def _columns(evaluation: Mapping[str, Any]) -> Sequence[str]:
    models = [m["label"] for m in evaluation["methods"] if m["kind"] == "model"]
    best = [evaluation["classical"]] if evaluation["classical"] else []
    return [INPUT, *best, *models]


def _column_text(image: Mapping[str, Any], column: str) -> str:
    psnr = image["methods"].get(column, {}).get("psnr")
    return column if psnr is None or math.isnan(psnr) else f"{column}   {psnr:.2f} dB"


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")
