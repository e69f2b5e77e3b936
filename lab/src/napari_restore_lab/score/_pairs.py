"""Finds pairs of hazy and clear images in tables and folders of data sets."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_restore.extension import InputError, is_image_in_folder, listed, read_text

CLEAR = ("clear", "clean", "gt", "groundtruth", "ground_truth", "label", "target", "reference")
"""Names of a folder of clear pictures, whatever their case."""
HAZY = ("hazy", "haze", "cloud", "cloudy", "fog", "foggy", "input")
"""Names of a folder of hazy pictures; a level may follow, as in cloud_L1 of 8KDehaze."""

_LEVEL = re.compile(rf"(?:{'|'.join(HAZY)})[ _-]?(l?\d+)", re.IGNORECASE)
_ENDING = re.compile(rf"[ _-](?:{'|'.join((*CLEAR, *HAZY))})$", re.IGNORECASE)
"""01_outdoor_hazy and 01_outdoor_GT of O-HAZE, 01_hazy and 01_GT of Dense-Haze and NH-HAZE."""
_NUMBER = re.compile(r"_\d+(?:\.\d+)?$")
"""0001_0.8_0.2 of RESIDE: airlight and scattering coefficient after the name of the clear one."""


@dataclass(frozen=True)
class Pair:
    """A hazy image and its clear reference."""

    name: str
    """Unique name within its group."""
    hazy: Path
    clear: Path
    group: str = ""
    """A level of haze or a part of a data set; scores are also given for each."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of a source, and a note."""

    pairs: tuple[Pair, ...]
    note: str = ""
    """One sentence on pictures without a partner; empty if there are none."""


def find_pairs(source: str | Path) -> Pairs:
    """Return the pairs of a CSV file or of a folder.

    A CSV file has the columns hazy and clear, paths relative to it, and may have group.
    A folder has subfolders of hazy and clear images (`HAZY`, `CLEAR`), several hazy ones ending in
    a level, or both kinds as NN_hazy and NN_GT; otherwise it has subfolders of this form: only
    `test` is used where there is one, all others become groups. Raises `InputError` with one sentence.
    """
    path = Path(source)
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise InputError(f"There is no {path}.", "Name a folder of pairs or a CSV file.")
    return Pairs(tuple(_of_table(path)))


# -- tables --------------------------------------------------------------------------


def _of_table(path: Path) -> list[Pair]:
    try:
        text = read_text(path)
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table: {error}.", "Name a CSV file."
        ) from None
    rows = [{str(k or "").strip().lower(): v for k, v in row.items()} for row in rows]
    if not rows:
        raise InputError(f"{path} contains no pairs.", "Give it a row for each.")
    for column in ("hazy", "clear"):
        if not all(isinstance(row.get(column), str) and row[column].strip() for row in rows):
            raise InputError(
                f"{path} has no column {column} filled in every row.",
                "Its first line names the columns: hazy,clear or hazy,clear,group.",
            )
    found = [
        (path.parent / row["hazy"].strip(), path.parent / row["clear"].strip(), _text(row, "group"))
        for row in rows
    ]
    missing = [str(file) for row in found for file in row[:2] if not file.exists()]
    if missing:
        raise InputError(
            f"{path} names files that do not exist: {listed(missing)}.",
            "Paths are relative to the folder of the table.",
        )
    return _named(found, path.parent)


def _text(row: dict[str, str], column: str) -> str:
    return (row.get(column) or "").strip()


# -- folders -------------------------------------------------------------------------


def _of_folder(folder: Path) -> Pairs:
    found, lonely = _in_folder(folder)
    for test in (child for child in _folders(folder) if child.name.lower() == "test"):
        if not found:
            found, lonely = _in_folder(test)
    if not found:
        parts = {child.name: _in_folder(child) for child in _folders(folder)}
        parts = {name: part for name, part in parts.items() if part[0]}
        for name, (below, alone) in parts.items():
            # A single folder with pairs, for instance `train`, is no group.
            above = name if len(parts) > 1 else ""
            found += [
                (hazy, clear, "/".join(filter(None, (above, group))))
                for hazy, clear, group in below
            ]
            lonely += alone
    if not found:
        raise InputError(
            f"There are no pairs of a hazy and a clear picture in {folder}.",
            "It needs the folders hazy and clear with pictures of the same names, or name a CSV "
            "file with the columns hazy and clear.",
        )
    note = ""
    if lonely:
        one = len(lonely) == 1
        count = "1 picture has" if one else f"{len(lonely)} pictures have"
        names = listed([file.relative_to(folder).as_posix() for file in lonely])
        note = f"{count} no partner and {'is' if one else 'are'} left out: {names}."
    return Pairs(tuple(_named(found, folder)), note)


def _in_folder(folder: Path) -> tuple[list[tuple[Path, Path, str]], list[Path]]:
    """Return (hazy, clear, group) of one folder, and its images without a partner."""
    children = _folders(folder)
    clear_folders = [child for child in children if child.name.lower() in CLEAR]
    hazy_folders = [
        (child, found.group(1) if (found := _LEVEL.fullmatch(child.name)) else "")
        for child in children
        if child.name.lower() in HAZY or _LEVEL.fullmatch(child.name)
    ]
    if clear_folders and hazy_folders:
        clear = [file for child in clear_folders for file in _pictures(child)]
        groups = [(_pictures(child), level) for child, level in hazy_folders]
    else:
        both = [file for file in _pictures(folder) if _ENDING.search(file.stem)]
        clear = [file for file in both if _ending(file) in CLEAR]
        groups = [([file for file in both if _ending(file) in HAZY], "")]
    partners = _partners(clear, folder)
    pairs, lonely, used = [], [], set()
    for pictures, level in groups:
        for file in pictures:
            partner = next((partners[key] for key in _keys(file) if key in partners), None)
            if partner is None:
                lonely.append(file)
            else:
                pairs.append((file, partner, level))
                used.add(partner)
    return pairs, [*lonely, *(file for file in clear if file not in used)] if pairs else []


def _partners(clear: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return clear images by name. Raises `InputError` for equal names."""
    partners: dict[str, Path] = {}
    for file in clear:
        for key in {file.stem, _ENDING.sub("", file.stem)}:
            other = partners.setdefault(key, file)
            if other != file:
                raise InputError(
                    f"{other.relative_to(folder)} and {file.relative_to(folder)} are both the "
                    f"clear picture {key}.",
                    "Remove one, or name the pairs in a CSV file.",
                )
    return partners


def _keys(hazy: Path) -> Iterator[str]:
    """Yield possible names of the clear image, the most likely first."""
    stem = hazy.stem
    yield stem
    stem = _ENDING.sub("", stem)
    yield stem
    while (shorter := _NUMBER.sub("", stem)) != stem:
        stem = shorter
        yield stem


def _ending(file: Path) -> str:
    found = _ENDING.search(file.stem)
    return found.group().lstrip(" _-").lower() if found else ""


def _folders(folder: Path) -> list[Path]:
    inside = (child for child in sorted(folder.iterdir()) if not child.name.startswith("."))
    return [child for child in inside if child.is_dir() and child.suffix.lower() != ".zarr"]


def _pictures(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if is_image_in_folder(child)]


# -- names ---------------------------------------------------------------------------


def _named(found: Sequence[tuple[Path, Path, str]], folder: Path) -> list[Pair]:
    """Name each pair by its stem, or by its path where stems of a group are equal."""
    stems = Counter((group, hazy.stem) for hazy, _, group in found)
    pairs = []
    for hazy, clear, group in found:
        name = hazy.stem
        if stems[group, name] > 1:
            name = hazy.relative_to(folder).as_posix() if hazy.is_relative_to(folder) else str(hazy)
        pairs.append(Pair(name, hazy, clear, group))
    twice = [pair.name for pair, n in Counter(pairs).items() if n > 1]
    if twice:
        raise InputError(f"Pairs are named twice: {listed(twice)}.", "Name each once.")
    return pairs
