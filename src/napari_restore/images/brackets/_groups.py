"""Which photos of a folder are the frames of one bracket, by the camera's record of each."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from napari_restore._addresses import is_remote
from napari_restore._plain_files import open_file
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.images._suffixes import RAW_SUFFIXES
from napari_restore.images.brackets._exposure import Exposure, comparable_exposures, exposure_in
from napari_restore.images.files.exif import exif_tags
from napari_restore.images.readers.registry import reader_of
from napari_restore.questions import Pathlike

CAMERA = (0x010F, 0x0110, 0xA431, 0xA434)
"""Maker, model, serial number and lens."""
TAKEN = 0x9003
TAKEN_FRACTION = 0x9291
"""Digits of the second after the point."""
BIAS = 0x9204
MODE = 0xA402
AUTO_BRACKET = 2
GAP = timedelta(seconds=2)
SAVING = timedelta(seconds=1)
"""What a camera needs between two long exposures besides these."""
DISTINCT = 0.3
"""EV that two frames of a bracket differ by at least."""
_SAME = {".jpeg": ".jpg", ".jpe": ".jpg", ".heif": ".heic", ".hif": ".heic", ".tiff": ".tif"}
"""Suffixes of one type."""
_NAMES = {".jpg": "JPEG", ".heic": "HEIF"}
"""Types that a camera writes beside RAW."""
MOST = 16
"""Photos that may be one bracket although their times do not show it."""


@dataclass(frozen=True)
class Bracket:
    """Photos of one scene with different exposures."""

    paths: tuple[Path, ...]
    """The frames, dark to bright where the camera recorded exposures, else in order of name."""
    exposures: tuple[float, ...] | None
    """EV of each frame relative to `reference`; None where not all are recorded."""
    reference: int | None
    """The frame in the middle by exposure, of two the darker, counted from 0; None if unknown."""
    note: str | None = None
    """What the user should know of how the frames were found."""


@dataclass(frozen=True)
class _Shot:
    """What the camera recorded of one photo."""

    path: Path
    taken: datetime | None = None
    kind: tuple[Any, ...] = ()
    """Type, camera, lens and size: the same for all frames of a bracket."""
    exposure: Exposure | None = None
    bias: float | None = None
    by_camera: bool = False
    """Whether the camera varied the exposure by itself."""
    error: RestoreError | None = None
    """Why the file cannot be read."""

    @property
    def settings(self) -> tuple[Any, ...]:
        """Time, maker and model of the camera, and exposure, which are those of one shot."""
        ev = None if self.exposure is None else round(self.exposure.ev, 1)
        return self.taken, *self.kind[1:3], ev


def brackets_among(paths: Iterable[Pathlike]) -> list[Bracket]:
    """Return the brackets among photos in order of time, photos of none as brackets of one frame.

    Frames of a bracket are by one camera and lens, of one size, and at least 0.3 EV apart; each
    follows the one before within 2 s, or within twice the longer exposure and 1 s. A second frame
    of one exposure bias begins another bracket; one of the exposure of the last frame is left alone, as
    is a file that is equal to another, with a note. Files of different types are never frames of one.
    Where the times show no bracket, up to 16 photos of the commonest type are one, with a note. Of
    a photo as RAW and as JPEG or HEIF the RAW counts, with a note. A file that cannot be read is judged by
    its EXIF if it has one. Raises the error of the first of other photos where none can be read.
    """
    files = sorted(Path(os.fspath(each)) for each in paths)
    copies = _copies_among(files)
    shots = [_shot_of(path) for path in files if path not in copies]
    twins = _twins_of_raw(shots)
    found = _brackets_of([shot for shot in shots if shot not in twins])
    notes = [f"{escape_controls(c.name)} is a copy of {escape_controls(of.name)}, and is left out."
             for c, of in copies.items()]  # fmt: skip
    notes += [_note_on(twins)] if twins else []
    if notes:
        found[0] = replace(found[0], note=" ".join(filter(None, (*notes, found[0].note))))
    return found


def _copies_among(files: Sequence[Path]) -> dict[Path, Path]:
    """Return the files that are equal to another, and that: of the shortest name, then the first."""
    by_size: dict[int, list[Path]] = {}
    copies: dict[Path, Path] = {}
    for path in sorted(files, key=lambda each: (len(each.name), each)):
        with contextlib.suppress(OSError):
            others = by_size.setdefault(path.stat().st_size, [])
            same = next((each for each in others if filecmp.cmp(each, path, shallow=False)), None)
            if same is None:
                others.append(path)
            else:
                copies[path] = same
    return copies


def without_twins(paths: Iterable[Pathlike]) -> tuple[list[str], str | None]:
    """Return photos without those that are there as RAW as well, addresses as they are, and perhaps a note."""
    given = [os.fspath(each) for each in paths]
    files = [Path(path) for path in given if not is_remote(path)]
    if len({_type_of(path) for path in files}) < 2:
        return given, None
    twins = _twins_of_raw([_shot_of(path) for path in files])
    left_out = {shot.path for shot in twins}
    kept = [path for path in given if is_remote(path) or Path(path) not in left_out]
    return kept, _note_on(twins) if twins else None


def _note_on(twins: Sequence[_Shot]) -> str:
    many = f"{len(twins)} photos are" if len(twins) > 1 else "1 photo is"
    others = " and ".join(sorted({_NAMES[_type_of(shot.path)] for shot in twins}))
    return (
        f"{many} there as RAW and as {others}: the RAW is used. Name the other files to use those."
    )


def _type_of(path: Path) -> str:
    """Return what is the same for files of one type."""
    suffix = path.suffix.lower()
    return ".raw" if suffix in RAW_SUFFIXES else _SAME.get(suffix, suffix)


def _twins_of_raw(shots: Sequence[_Shot]) -> list[_Shot]:
    """Return the photos that the camera, or another program, has also written as RAW."""
    # They have the name of a RAW photo, or its camera, time and exposure.
    raw = [shot for shot in shots if _type_of(shot.path) == ".raw" and shot.error is None]
    by_name = {(shot.path.parent, shot.path.stem.lower()): shot.taken for shot in raw}
    by_shot = {shot.settings for shot in raw if shot.taken is not None}
    twins = []
    for shot in shots:
        if _type_of(shot.path) not in _NAMES:
            continue
        name = (shot.path.parent, shot.path.stem.lower())
        if name in by_name:
            taken = by_name[name]
            # A name may come again, as that of another photo.
            same = taken is None or shot.taken is None or abs(taken - shot.taken) <= GAP
        else:
            same = shot.settings in by_shot
        if same:
            twins.append(shot)
    return twins


def _brackets_of(shots: Sequence[_Shot]) -> list[Bracket]:
    """Return the brackets among photos that are there once, by the rules of `brackets_among`."""
    groups = _by_time([shot for shot in shots if shot.taken is not None])
    if any(len(group) > 1 for group in groups):
        groups += [[shot] for shot in shots if shot.taken is None]
        return [_bracket_of(group) for group in groups]
    best = _best_type(shots)
    if 1 < len(best) <= MOST:
        recorded = all(shot.taken is not None for shot in best)
        why = "show no bracket" if recorded else "are not all recorded"
        note = f"The times of the photos {why}: all {len(best)} are taken as one bracket."
        return [_bracket_of(best, note), *(_bracket_of([s]) for s in shots if s not in best)]
    errors = [shot.error for shot in shots if shot.error is not None and shot.taken is None]
    if errors and len(errors) == len(shots):
        raise errors[0]
    return [_bracket_of([shot]) for shot in shots]


def _best_type(shots: Sequence[_Shot]) -> list[_Shot]:
    """Return the photos of the type of which there are most, of RAW where there are as many."""
    types: dict[str, list[_Shot]] = {}
    for shot in shots:
        types.setdefault(_type_of(shot.path), []).append(shot)
    return max(types.values(), key=lambda each: (len(each), _type_of(each[0].path) == ".raw"))


def _by_time(shots: Sequence[_Shot]) -> list[list[_Shot]]:
    """Return photos with a time as brackets, in order of their first frames."""
    kinds: dict[tuple[Any, ...], list[list[_Shot]]] = {}
    alone: list[list[_Shot]] = []
    for shot in sorted(shots, key=_when):
        groups = kinds.setdefault(shot.kind, [])
        if groups and _belongs(groups[-1], shot):
            groups[-1].append(shot)
        elif groups and _repeats(groups[-1], shot):
            alone.append([shot])
        else:
            groups.append([shot])
    found = [*alone, *(group for groups in kinds.values() for group in groups)]
    return sorted(found, key=lambda group: _when(group[0]))


def _when(shot: _Shot) -> tuple[datetime, Path]:
    return shot.taken or datetime.min, shot.path


def _follows(last: _Shot, shot: _Shot) -> bool:
    """Return whether a photo was taken as soon after another as a frame of one bracket."""
    if last.taken is None or shot.taken is None or last.by_camera != shot.by_camera:
        return False
    exposures = [each.exposure for each in (last, shot) if each.exposure is not None]
    longest = max((each.seconds for each in exposures), default=0.0)
    # No camera exposes for days; a number of EXIF may be any.
    waiting = timedelta(seconds=2 * min(longest, 86400.0)) + SAVING
    return shot.taken - last.taken <= max(GAP, waiting)


def _repeats(group: Sequence[_Shot], shot: _Shot) -> bool:
    """Return whether a photo is of the exposure of the last frame: taken twice, it ends no bracket."""
    evs = _exposures([group[-1], shot])
    return _follows(group[-1], shot) and evs is not None and abs(evs[1] - evs[0]) < DISTINCT


def _belongs(group: Sequence[_Shot], shot: _Shot) -> bool:
    """Return whether a photo is a further frame of a bracket, by the rules of `brackets_among`."""
    if not _follows(group[-1], shot):
        return False
    biases = [each.bias for each in group]
    # In manual mode all have a bias of 0.
    if len(set(biases)) > 1 and shot.bias in biases:
        return False
    evs = _exposures([*group, shot])
    return evs is None or all(abs(ev - evs[-1]) >= DISTINCT for ev in evs[:-1])


def _bracket_of(group: Sequence[_Shot], note: str | None = None) -> Bracket:
    evs = _exposures(group)
    if evs is None or len(group) == 1:
        return Bracket(tuple(shot.path for shot in group), None, None, note)
    order = sorted(range(len(group)), key=lambda number: (evs[number], number))
    reference = (len(order) - 1) // 2
    zero = evs[order[reference]]
    paths = tuple(group[number].path for number in order)
    return Bracket(paths, tuple(evs[number] - zero for number in order), reference, note)


def _exposures(group: Sequence[_Shot]) -> list[float] | None:
    return comparable_exposures([shot.exposure for shot in group])


def _shot_of(path: Path) -> _Shot:
    """Return what is recorded of a photo; of a damaged file what its header has."""
    error: RestoreError | None = None
    try:
        reader = reader_of(path)
    except RestoreError as failed:
        error, (exif, size) = failed, _header_of(path)
    else:
        exif, size = reader.profile.exif, tuple(reader.levels[0][:2])
        reader.close()
    tags = exif_tags(exif)
    kind = (_type_of(path), *(str(tags.get(tag, "")).strip("\0 ") for tag in CAMERA), size)
    by_camera = tags.get(MODE) == AUTO_BRACKET
    return _Shot(path, _time_in(tags), kind, exposure_in(exif), _bias_in(tags), by_camera, error)


def _header_of(path: Path) -> tuple[bytes | None, tuple[int, ...]]:
    """Return EXIF and size (height, width), upright, of a JPEG that cannot be read to its end."""
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        # The class itself, not Image.open: that refuses large images by their size.
        with open_file(path) as file, JpegImageFile(file) as image:
            exif = image.info.get("exif")
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            size = (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # Pillow raises many kinds
        return None, ()
    return exif, size


def _time_in(tags: dict[int, Any]) -> datetime | None:
    """Return when a photo was taken, by the clock of its camera."""
    try:
        taken = datetime.strptime(str(tags.get(TAKEN, "")).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    digits = str(tags.get(TAKEN_FRACTION, "")).strip("\0 ")
    if not (digits.isascii() and digits.isdigit()):
        return taken
    return taken + timedelta(seconds=float(f"0.{digits}"))


def _bias_in(tags: dict[int, Any]) -> float | None:
    try:
        return round(float(tags[BIAS]), 2)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
