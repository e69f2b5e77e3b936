"""The files of an evaluation."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput, DiskFull
from napari_restore.images import is_disk_full
from napari_restore.records import write_json
from napari_restore.training.score._journal import NAME as JOURNAL
from napari_restore.training.score._methods import INPUT
from napari_restore.training.score._strips import Previews, chosen, file_name
from napari_restore.training.score._tables import csv_table, latex_table

CSV, SUMMARY, TABLE, STRIPS, PREVIEWS, WORK = (
    "scores.csv",
    "summary.json",
    "table.tex",
    "strips",
    "previews",
    "work",
)
"""In the output folder; the last three are folders, `work` is gone at the end."""
ALL = -1
"""As a number of strips: one for every image."""


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make the output folder. Raises `BadOutput` if it cannot be written or holds other scores.

    Scores of an earlier evaluation, which left its journal there, may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise BadOutput(f"{folder} is a file.", "Name a folder after -o.")
    there = [name for name in (CSV, SUMMARY, TABLE) if (folder / name).exists()]
    if there and not overwrite and not (folder / JOURNAL).is_file():
        raise BadOutput(
            f"{folder / there[0]} exists and is not from an evaluation.",
            "Add --overwrite to replace it, or choose another folder.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Only trying tells of rights and of read-only disks.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadOutput(
            f"The folder {folder} cannot be written: {error.strerror or error}.",
            "Name another after -o.",
        ) from None


def write_outputs(
    folder: Path, account: Mapping[str, Any], previews: Previews, strips: int
) -> dict[str, Any]:
    """Write scores.csv, table.tex, strips and at last summary.json; returns the account.

    `strips` is how many of the worst, the median and the best images get one, or `ALL`.
    """
    evaluation = account["evaluation"]
    try:
        kinds = {method["label"]: method["kind"] for method in evaluation["methods"]}
        _write(folder / CSV, csv_table(evaluation, kinds))
        _write(folder / TABLE, latex_table(evaluation))
        names = _write_strips(folder, evaluation, previews, strips)
        told = {**account, "strips": names}
        write_json(folder / SUMMARY, told)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No space is left for {folder}.", "Free some, then go on.") from None
        raise BadOutput(
            f"{error.filename or folder} cannot be written: {error.strerror or error}.",
            "Name another folder after -o.",
        ) from None
    return told


def _write_strips(
    folder: Path, evaluation: Mapping[str, Any], previews: Previews, strips: int
) -> list[str]:
    """Names of the files made; those of earlier evaluations go."""
    made: list[str] = []
    for place, word in _places(evaluation, strips).items():
        image = _by_place(evaluation)[place]
        name = "_".join(filter(None, (word, file_name(*place)))) + ".jpg"
        columns = [(column, _told(image, column)) for column in _columns(evaluation)]
        if previews.strip(*place, columns, folder / STRIPS / name):
            made.append(name)
    for old in sorted((folder / STRIPS).glob("*.jpg")):
        if old.name not in made:
            old.unlink()
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
    return chosen(values, strips)


def _by_place(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(image["group"], image["image"]): image for image in evaluation["images"]}


def _main(evaluation: Mapping[str, Any]) -> str:
    """The method by which images are worst or best: the first model."""
    models = [m["label"] for m in evaluation["methods"] if m["kind"] == "model"]
    return str((models or [evaluation["classical"] or INPUT])[0])


def _columns(evaluation: Mapping[str, Any]) -> Sequence[str]:
    models = [m["label"] for m in evaluation["methods"] if m["kind"] == "model"]
    best = [evaluation["classical"]] if evaluation["classical"] else []
    return [INPUT, *best, *models, "clear"]


def _told(image: Mapping[str, Any], column: str) -> str:
    name = "hazy" if column == INPUT else column
    psnr = image["methods"].get(column, {}).get("psnr")
    return name if psnr is None or math.isnan(psnr) else f"{name}   {psnr:.2f} dB"


def _write(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
