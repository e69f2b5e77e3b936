"""`fuse`: the frames of a bracket into one picture, or the brackets of a folder into one each."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore.commands._arguments import load_model, open_image, plan_arguments, reference_of
from napari_restore.commands._checks import check_files, read_files
from napari_restore.commands._folder import restore_folder
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._options import (
    add_bracket_options,
    add_output,
    add_output_options,
    add_run_options,
)
from napari_restore.commands._outputs import (
    Item,
    images_in,
    is_folder,
    items_of,
    output_name,
    refuse_address,
)
from napari_restore.commands._progress import EventCallback
from napari_restore.commands._restore import summary_line
from napari_restore.commands._result import CommandResult
from napari_restore.commands._runner import Runner
from napari_restore.errors import InputError, RestoreError
from napari_restore.questions import parsing


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fuse`."""
    parser.set_defaults(run=fuse, stack=False)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="the frames of one scene, in any order, or a folder of brackets, or one picture of light",
    )
    add_output(parser, "brackets")
    add_bracket_options(parser)
    parser.add_argument(
        "--deghost",
        action="append",
        dest="set",
        default=[],
        type=lambda amount: parsing.assignment(f"deghost={amount}"),
        metavar="AMOUNT",
        help="0 … 1: how far what moved between the frames is taken whole from one of them (default 0), "
        "where the model can; --set moving=N names the frame",
    )
    add_run_options(parser, model=api.FUSION_MODEL, stack=False)
    parser.add_argument(
        "--no-crop",
        action="store_false",
        dest="crop",
        default=True,
        help="keep the edges of the reference that some frame does not show (default: cut off, where "
        "no region is given)",
    )
    add_output_options(parser, name="{stem}_fused{suffix}")


def fuse(
    options: Namespace, interrupt: Interrupt | None = None, report: EventCallback | None = None
) -> CommandResult:
    """Fuse the frames of a bracket into a file, or several brackets into a folder.

    `interrupt` and `report` are as for `restore`.
    """
    refuse_address(options.output)
    named = options.paths
    options.paths = images_in(named)
    folder = options.paths != named
    # No format is without a suffix.
    several = is_folder(options.output, options.paths[:1], joined=False) or (
        folder and not Path(options.output).suffix
    )
    output = options.output
    if several:
        return _fuse_brackets(options, interrupt, report)
    notes = _take_one_bracket(options) if folder else _take_raw(options)
    record, maps = options.record, options.maps
    item = Item(
        tuple(options.paths),
        Path(output),
        None if record is None else Path(record.replace("{stem}", Path(output).stem)),
        None if maps is None else Path(maps),
    )
    read = read_files(options)
    check_files([item], read)
    with Runner(options, interrupt, read, report=report) as runner:
        runner.check(item)
        frames = [open_image(options, [path]) for path in options.paths]
        image = _aligned(options, runner, frames, reference_of(options), options.ev)
        image.notes = [*image.notes, *notes]
        arguments: dict[str, Any] = plan_arguments(options, image)
        record_data = runner.restore(item, image, load_model(options), arguments)
    return CommandResult(record_data, summary_line(str(item.output), record_data), wrote_files=True)


def _fuse_brackets(
    options: Namespace, interrupt: Interrupt | None, report: EventCallback | None
) -> CommandResult:
    """Fuse each bracket into a file of a folder, which is named after its reference."""
    for name in ("reference", "ev"):
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name} is for one bracket, but {options.output} is a folder.",
                "Name the frames of one bracket, and the file to write after -o.",
            )

    # A folder may be fused into itself, again.
    outputs = {
        Path(options.output, output_name(options.name, path)).absolute() for path in options.paths
    }
    photos = [path for path in options.paths if Path(path).absolute() not in outputs]
    found = api.brackets(photos, singles=True)
    groups = [_reference_first(options, each) for each in found if len(each.paths) > 1]
    if not groups:
        raise InputError(
            f"The {len(photos)} photos show no bracket by their times and exposures.",
            "Name the frames of one, and the file to write after -o.",
        )
    items = items_of(groups, options, into_folder=True)
    options.paths = [path for group in groups for path in group]
    read = read_files(options)
    check_files(items, read, Path(options.output))
    with Runner(options, interrupt, read, report=report) as runner:
        for note in api.bracket_notes(found):
            runner.report(api.Note(note))
        return restore_folder(
            options, items, runner, lambda frames: _aligned(options, runner, frames, 0, None)
        )


def _aligned(
    options: Namespace,
    runner: Runner,
    frames: list[Any],
    reference: int | None,
    exposures: list[float] | None,
) -> Any:
    """Return frames as one image, with companions."""
    if options.align != "off":
        runner.report(api.Phase("Aligning the frames"))
    return api.open_bracket(frames, reference=reference, exposures=exposures, align=options.align)


def _take_one_bracket(options: Namespace) -> list[str]:
    """Reduce the photos of a folder to its bracket; return notes on that. Raises `InputError` for several."""
    found = api.brackets(options.paths, singles=True)
    if options.reference is not None or options.ev is not None:
        # Which photos are meant is clear, but for those that are there as RAW and JPEG.
        once = {str(path) for each in found for path in each.paths}
        options.paths = [path for path in options.paths if path in once]
        return [each.note for each in found[:1] if each.note is not None]
    brackets = [each for each in found if len(each.paths) > 1]
    if len(brackets) > 1:
        raise InputError(
            f"There are {len(brackets)} brackets, but {options.output} is one file.",
            "Name a folder after -o, as fused/, or the frames of one bracket.",
        )
    if not brackets:
        return []  # few brackets have that many frames, but it was asked for
    kept = {str(path) for path in brackets[0].paths}
    options.paths = [path for path in options.paths if path in kept]
    return api.bracket_notes(found)


def _take_raw(options: Namespace) -> list[str]:
    """Leave out what is named as RAW and as JPEG, as by ``*``; return a note on that."""
    if options.ev is not None and len(options.ev) == len(options.paths):
        return []
    options.paths, note = api.without_twins(options.paths)
    return [] if note is None else [note]


def _reference_first(options: Namespace, bracket: Any) -> tuple[str, ...]:
    """Return the files of a bracket, that of its reference first."""
    paths = [str(path) for path in bracket.paths]
    reference = bracket.reference
    if reference is None:
        try:
            frames = [open_image(options, [path]) for path in paths]
            name = api.open_bracket(frames, align="off").path
            reference = [frame.path for frame in frames].index(name)
        except (RestoreError, OSError):
            reference = 0  # its own run says what is wrong
    return (paths.pop(reference), *paths)
