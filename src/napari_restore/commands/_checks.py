"""Checks of the files of a command before the run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_restore import api
from napari_restore.commands._outputs import Item, name_on_disk
from napari_restore.errors import BadOutput, InputError
from napari_restore.records import check_record, read_record


def read_files(options: Namespace) -> frozenset[object]:
    """Return every input file of the options, as `identities`."""
    named = [getattr(options, name, None) for name in ("context", "weights")]
    masks = [getattr(options, name, None) for name in ("mask", "exclude")]
    named += [api.mask_file(mask) for mask in masks if mask is not None]
    # One model, or several where the option may be repeated.
    for model in getattr(options, "models", None) or [options.model]:
        named += [model, model.partition(".py:")[0] + ".py"]
    return identities(options.paths) | identities(files_among(named))


def files_among(names: Iterable[str | None]) -> list[str]:
    """Return those of `names` that are files; others may be ids, keywords, or None."""
    return [name for name in names if name and _is_file(name)]


def _is_file(name: str) -> bool:
    """Return whether a name is a file; text that is too long for a name is none."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def identities(paths: Iterable[str | Path]) -> frozenset[object]:
    """Return keys that identify `paths`, independent of spelling and links."""
    return frozenset(each for path in paths for each in _identities(Path(path)))


def _identities(path: Path) -> list[object]:
    keys: list[object] = [os.path.abspath(path)]
    with contextlib.suppress(OSError):
        status = path.stat()
        if status.st_ino:  # some network drives of Windows number nothing
            keys.append((status.st_dev, status.st_ino))
    return keys


def check_files(
    items: Sequence[Item], read: frozenset[object], new_folder: Path | None = None
) -> None:
    """Raise `BadOutput` for outputs that would replace an input, or are written twice.

    Also where the folder of a record or of side maps cannot be written. `new_folder` is a folder
    that the run itself creates for its outputs.
    """
    outputs: dict[str, Path] = {}
    for path in (path for item in items for path in (item.output, item.record) if path):
        refuse_input(path, read)
        if outputs.setdefault(name_on_disk(path), path) is not path:
            raise BadOutput(f"{path} would be written twice.", "Choose another name.")
    new_folder_name = (
        None if new_folder is None or new_folder.exists() else name_on_disk(new_folder)
    )
    for item in items:
        if item.record is not None and name_on_disk(item.record.parent) != new_folder_name:
            check_record(item.record, overwrite=True)
        if item.maps is not None:
            _check_folder(item.maps)


def check_maps(
    item: Item, names: Iterable[str], read: frozenset[object], *, overwrite: bool
) -> None:
    """Raise `BadOutput` for side maps that would replace a file."""
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
    """Raise `BadOutput` for an existing file without `overwrite`."""
    if not overwrite and (output.exists() or output.is_symlink()):
        raise BadOutput(
            f"{output} exists.", "Add --overwrite to replace it, or choose another name."
        )


def refuse_input(path: Path, read: frozenset[object]) -> None:
    """Raise `BadOutput` if `path` is one of the input files."""
    if not read.isdisjoint(_identities(path)):
        raise BadOutput(f"{path} is an input.", "Choose another name for the output.")


def refuse_old_record(item: Item, *, overwrite: bool) -> None:
    """Raise `BadOutput` for an existing record, unless it is of an unfinished run of `item`."""
    if item.record is None or not item.record.exists():
        return
    if not item.record.is_file():
        # Do not read a device or pipe: it may never end.
        check_record(item.record)
    try:
        record = read_record(item.record)
    except InputError:
        unfinished = False
    else:
        path = record["input"]["path"]
        sources = {name_on_disk(Path(source)) for source in item.sources}
        unfinished = (
            record["status"] != "done" and path is not None and name_on_disk(Path(path)) in sources
        )
    check_record(item.record, overwrite=overwrite or unfinished)


def _check_folder(folder: Path) -> None:
    """Raise `BadOutput` if `folder` cannot be created or written."""
    existing = folder
    while not existing.exists() and existing.parent != existing:
        existing = existing.parent
    if not existing.is_dir():
        raise BadOutput(f"{existing} is not a folder.", "Name a folder after --maps.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise BadOutput(
            f"The folder {folder} cannot be written: {error.strerror or error}.",
            "Name another after --maps.",
        ) from None
