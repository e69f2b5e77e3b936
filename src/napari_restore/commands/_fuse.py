"""`fuse`: the frames of a bracket into one picture."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from napari_restore.api import FUSION_MODEL
from napari_restore.commands._arguments import load_model, open_image, plan_arguments
from napari_restore.commands._checks import check_files, read_files
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._options import add_output_options, add_run_options
from napari_restore.commands._outputs import Item, images_in, is_folder
from napari_restore.commands._restore import summary_line
from napari_restore.commands._result import CommandResult
from napari_restore.commands._runner import Runner
from napari_restore.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fuse`."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="the frames of one scene, in any order, or a folder of them",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="the file to write (.tif .zarr .png .jpg)",
    )
    parser.add_argument(
        "--reference",
        metavar="PATH",
        help="the frame that the result replaces, with its metadata (default: the one in the middle "
        "by exposure)",
    )
    parser.add_argument(
        "--align",
        choices=("auto", "off"),
        default="auto",
        help="whether to bring the frames onto the grid of the reference (default auto)",
    )
    parser.add_argument(
        "--ev",
        type=float,
        nargs="+",
        metavar="EV",
        help="exposure of each frame (default: as recorded by the camera, else estimated)",
    )
    add_run_options(parser, model=FUSION_MODEL, stack=False)
    parser.set_defaults(stack=False)
    add_output_options(parser, folder=False)


def fuse(options: Namespace) -> CommandResult:
    """Fuse the frames of a bracket into a file."""
    from napari_restore import api

    output = options.output
    options.paths, _ = images_in(options.paths, output)
    if is_folder(output, options.paths[:1], stack=False):
        raise InputError(f"{output} is a folder.", "Name the file to write, as fused.tif.")
    record, maps = options.record, options.maps
    item = Item(
        tuple(options.paths),
        Path(output),
        None if record is None else Path(record.replace("{stem}", Path(output).stem)),
        None if maps is None else Path(maps),
    )
    read = read_files(options)
    check_files([item], read)
    with Interrupt() as interrupt:
        runner = Runner(options, interrupt, read)
        runner.check(item)
        if options.align != "off":
            runner.phase("Aligning the frames")
        image = api.open_bracket(
            [open_image(options, [path]) for path in options.paths],
            reference=_reference(options),
            exposures=options.ev,
            align=options.align,
        )
        arguments: dict[str, Any] = plan_arguments(options, image)
        record_data = runner.restore(item, image, load_model(options), arguments)
    return CommandResult(record_data, summary_line(item.output, record_data), wrote_files=True)


def _reference(options: Namespace) -> int | None:
    """Return which of the frames --reference names: by its path, or by its name."""
    wanted = options.reference
    if wanted is None:
        return None
    for same in (lambda path: path == wanted, lambda path: Path(path).name == Path(wanted).name):
        found = [number for number, path in enumerate(options.paths) if same(path)]
        if found:
            return found[0]
    raise InputError(f"{wanted} is none of the frames.", "Name one of them with --reference.")
