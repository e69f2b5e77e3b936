"""What can be found out about the files of a command before any work begins."""

from __future__ import annotations

import contextlib
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_restore.commands._outputs import Item, name_on_disk
from napari_restore.errors import BadOutput, InputError
from napari_restore.records import check_record, read_record


def read_files(options: Namespace) -> frozenset[object]:
    """Every file that the options name to be read, as `identities` gives them."""
    named = [getattr(options, name, None) for name in ("mask", "exclude", "context", "weights")]
    # One model, or the several of a command that takes them.
    for model in getattr(options, "models", None) or [options.model]:
        named += [model, model.partition(".py:")[0] + ".py"]
    return identities(options.paths) | identities(files_among(named))


def files_among(names: Iterable[str | None]) -> list[str]:
    """Those of `names` that are files; others may be ids, words, or nothing."""
    return [name for name in names if name and _is_file(name)]


def _is_file(name: str) -> bool:
    """Whether it is one; text that is too long for a name is none."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def identities(paths: Iterable[str | Path]) -> frozenset[object]:
    """What tells whether a path, however it is written or linked, is one of `paths`."""
    return frozenset(each for path in paths for each in _identities(Path(path)))


def _identities(path: Path) -> list[object]:
    found: list[object] = [os.path.abspath(path)]
    with contextlib.suppress(OSError):
        status = path.stat()
        if status.st_ino:  # some network drives of Windows number nothing
            found.append((status.st_dev, status.st_ino))
    return found


def check_files(items: Sequence[Item], read: frozenset[object], made: Path | None = None) -> None:
    """Refuse what would replace a file that is read, or meet another that is written.

    `made` is the folder that the run itself will make for its outputs. Raises
    `BadOutput`; also where a record or side maps have no folder that may be written.
    """
    taken: dict[str, Path] = {}
    for path in (path for item in items for path in (item.output, item.record) if path):
        refuse_input(path, read)
        if taken.setdefault(name_on_disk(path), path) is not path:
            raise BadOutput(f"{path} would be written twice.", "Choose another name.")
    coming = None if made is None or made.exists() else name_on_disk(made)
    for item in items:
        if item.record is not None and name_on_disk(item.record.parent) != coming:
            check_record(item.record, overwrite=True)
        if item.maps is not None:
            _check_folder(item.maps)


def check_maps(
    item: Item, names: Iterable[str], read: frozenset[object], *, overwrite: bool
) -> None:
    """Refuse side maps that would replace something. Raises `BadOutput`."""
    if item.maps is None:
        return
    others = {name_on_disk(path) for path in (item.output, item.record) if path}
    for name in names:
        path = item.maps / f"{name}.tif"
        refuse_input(path, read)
        if name_on_disk(path) in others:
            raise BadOutput(f"{path} would be written twice.", "Choose another folder for --maps.")
        refuse_existing(path, overwrite=overwrite)


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise `BadOutput` for a file that is there and may not be replaced."""
    if not overwrite and (output.exists() or output.is_symlink()):
        raise BadOutput(
            f"{output} exists.", "Add --overwrite to replace it, or choose another name."
        )


def refuse_input(path: Path, read: frozenset[object]) -> None:
    """Raise `BadOutput` if `path` is one of the files that are read."""
    if not read.isdisjoint(_identities(path)):
        raise BadOutput(f"{path} is an input.", "Choose another name for what is written.")


def refuse_old_record(item: Item, *, overwrite: bool) -> None:
    """Raise `BadOutput` for a record that is there, unless an unfinished run of `item` left it."""
    if item.record is None or not item.record.exists():
        return
    if not item.record.is_file():
        # Not to be read: a device may never end.
        check_record(item.record)
    try:
        told = read_record(item.record)
    except InputError:
        unfinished = False
    else:
        path = told["input"]["path"]
        sources = {name_on_disk(Path(source)) for source in item.sources}
        unfinished = (
            told["status"] != "done" and path is not None and name_on_disk(Path(path)) in sources
        )
    check_record(item.record, overwrite=overwrite or unfinished)


def _check_folder(folder: Path) -> None:
    """Raise `BadOutput` if `folder` cannot be made or written."""
    place = folder
    while not place.exists() and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise BadOutput(f"{place} is no folder.", "Name a folder after --maps.")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BadOutput(
            f"The folder {folder} cannot be written: {error.strerror or error}.",
            "Name another after --maps.",
        ) from None
