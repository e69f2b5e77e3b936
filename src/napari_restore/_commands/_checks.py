"""What can be found out about the files of a command before any work begins."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_restore._commands._outputs import Item
from napari_restore.errors import BadOutput, InputError
from napari_restore.records import check_record, read_record


def given_files(options: Namespace) -> list[str]:
    """Every file that the options name to be read."""
    named = [
        getattr(options, name, None) for name in ("mask", "exclude", "context", "weights", "model")
    ]
    if ".py:" in options.model:
        named.append(options.model.rpartition(":")[0])
    return [*options.paths, *(name for name in named if name and Path(name).is_file())]


def check_files(items: Sequence[Item], given: Sequence[str]) -> None:
    """Refuse what would replace a file that is read, or meet another that is written.

    Raises `BadOutput`; also where a record or side maps have no folder that may be
    written.
    """
    taken: dict[str, Path] = {}
    for path in (path for item in items for path in (item.output, item.record) if path):
        refuse_input(path, given)
        if taken.setdefault(_name(path), path) is not path:
            raise BadOutput(f"{path} would be written twice.", "Choose another name.")
    made = {_name(item.output.parent) for item in items} if len(items) > 1 else set()
    for item in items:
        # The folder of many outputs is made by the run.
        if item.record is not None and _name(item.record.parent) not in made:
            check_record(item.record, overwrite=True)
        if item.maps is not None:
            _check_folder(item.maps)


def check_maps(item: Item, names: Iterable[str], given: Sequence[str], *, overwrite: bool) -> None:
    """Refuse side maps that would replace something. Raises `BadOutput`."""
    if item.maps is None:
        return
    others = {_name(path) for path in (item.output, item.record) if path}
    for name in names:
        path = item.maps / f"{name}.tif"
        refuse_input(path, given)
        if _name(path) in others:
            raise BadOutput(f"{path} would be written twice.", "Choose another folder for --maps.")
        refuse_existing(path, overwrite=overwrite)


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise `BadOutput` for a file that is there and may not be replaced."""
    if not overwrite and (output.exists() or output.is_symlink()):
        raise BadOutput(
            f"{output} exists.", "Add --overwrite to replace it, or choose another name."
        )


def refuse_input(path: Path, given: Iterable[str]) -> None:
    """Raise `BadOutput` if `path` is one of the files that are read."""
    for source in given:
        same = path.absolute() == Path(source).absolute()
        if not same and path.exists() and Path(source).exists():
            same = path.samefile(source)
        if same:
            raise BadOutput(f"{path} is an input.", "Choose another name for what is written.")


def refuse_old_record(item: Item, *, overwrite: bool) -> None:
    """Raise `BadOutput` for a record that is there, unless an unfinished run of `item` left it."""
    if item.record is None or not item.record.exists():
        return
    try:
        told = read_record(item.record)
    except InputError:
        unfinished = False
    else:
        path = told["input"]["path"]
        sources = {_name(Path(source)) for source in item.sources}
        unfinished = told["status"] != "done" and path is not None and _name(Path(path)) in sources
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


def _name(path: Path) -> str:
    # Case-folded: on Windows and macOS A.tif and a.tif are one file.
    return str(path.absolute()).casefold()
