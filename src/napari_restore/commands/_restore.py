"""`plan`, `restore`, with planes of a stack as of a folder, and `rerun`."""

from __future__ import annotations

import argparse
import shutil
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import format_seconds
from napari_restore.commands._arguments import consent_of, load_model, open_image, plan_arguments
from napari_restore.commands._attend import repeat_attend
from napari_restore.commands._attribute import repeat_attribute
from napari_restore.commands._checks import check_files, identities, read_files
from napari_restore.commands._flags import with_flags
from napari_restore.commands._folder import restore_folder
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._options import (
    add_format_options,
    add_output,
    add_output_options,
    add_overwrite,
    add_run_options,
    add_yes,
)
from napari_restore.commands._outputs import (
    Item,
    as_folder,
    images_in,
    is_folder,
    items_of,
    names_file,
    refuse_address,
    without_outputs,
)
from napari_restore.commands._progress import EventCallback
from napari_restore.commands._result import CommandResult
from napari_restore.commands._runner import Runner, becomes_store, export_options
from napari_restore.errors import BadOutput, InputError, escape_controls, option


def restore_planes(
    options: Namespace, interrupt: Interrupt | None = None, report: EventCallback | None = None
) -> CommandResult:
    """Restore planes of one file into one file; see `restore`."""
    # Each plane is restored into a folder beside the output, where the same command finds those
    # that are finished, and removes them once they are joined.
    source = _only_source(options)
    target = Path(options.output)
    image = open_image(options, [source], plane=0)
    numbers = api.planes_asked(options.plane, image.planes, image.name)
    planes = image.planes
    if len(numbers) < planes.count:
        planes = planes.part(numbers)
    export = export_options(options)
    split = target.suffix.lower() != ".zarr" and planes.has_channel_pages(image.bands)
    if split and export.get("compress") == "jpeg":
        raise BadOutput(
            "JPEG compression does not suit channels with pages of their own.",
            f"Choose {option('compress', 'deflate')}.",
        )
    api.check_stack(target, image, overwrite=options.overwrite, **export)
    folder = target.parent / f".{target.name}.planes"
    digits = len(str(planes.count))
    items = [
        Item(
            (source,),
            folder / f"{number:0{digits}}{target.suffix}",
            None,
            None if options.maps is None else Path(options.maps) / f"{number:0{digits}}",
            plane=number,
        )
        for number in numbers
    ]
    read = read_files(options)
    check_files([Item((source,), target, None, None)], read)
    each = Namespace(**{**vars(options), "output": str(folder), "overwrite": True})
    if target.suffix.lower() != ".zarr":
        # Directories of smaller versions would count as pages.
        export |= {"overviews": False, "separate": split}
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    with Runner(each, interrupt, read, export, report=report) as runner:
        result = restore_folder(each, items, runner)
        if result.exit_code:
            failed = result.data["failed"]
            text = f"{failed} of {len(items)} planes failed, so that none were joined"
            return CommandResult(result.data, text, result.exit_code, wrote_files=True)
        runner.report(api.Phase("Joining planes"))
        origin = _origin(result.data["images"][0])
        api.join_planes(
            [item.output for item in items],
            target,
            like=image,
            planes=planes,
            origin=origin,
            overwrite=options.overwrite,
            progress=lambda done, total: runner.report(api.Progress(done, total)),
            cancelled=runner.cancelled,
        )
    shutil.rmtree(folder, ignore_errors=True)
    data = {
        **result.data,
        "output": str(target),
        "planes": [list(axis[:2]) for axis in planes.axes],
    }
    seconds = format_seconds(result.data["seconds"], tenths=True)
    text = f"wrote {escape_controls(str(target))}: {planes.count} planes ({planes}) in {seconds}"
    return CommandResult(data, text, wrote_files=True)


def _only_source(options: Namespace) -> str:
    """Return the file of a stack; raise `InputError` for what its planes have not."""
    sources = images_in(options.paths)
    if len(sources) > 1 or sources != options.paths:
        raise InputError(
            f"{option('planes', options.plane)} takes the planes of one file.",
            "Restore the stacks one by one.",
        )
    if options.record is not None:
        raise InputError(
            "A run over several planes writes no record, and cannot be repeated by rerun.",
            f"Leave {option('write_record()')} out, or restore one plane, {option('plane', 0)}.",
        )
    source: str = sources[0]
    return source


def _origin(entry: dict[str, Any]) -> tuple[int, int]:
    """Return (y, x) of the first pixel of an output of `restore_folder`."""
    targets = entry.get("record", {}).get("targets", [])
    if not targets or any(target.get("mask") for target in targets):
        return 0, 0
    y, x = (min(target["region"][axis] for target in targets) for axis in (0, 1))
    return int(y), int(x)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the options of `plan`."""
    parser.set_defaults(run=plan)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="the image (several with --stack)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the file that restore would write, whose time is counted (default: one like the image)",
    )
    add_run_options(parser)
    add_format_options(parser.add_argument_group("output"))


def plan(options: Namespace) -> CommandResult:
    """Show what `restore` would do."""
    before = api.seconds_measuring()
    with Interrupt():
        image = open_image(options, options.paths)
        output, export = output_of_plan(options, image), export_options(options)
        if options.output is not None:
            api.check_output(output, image, overwrite=True, **export)
        arguments = plan_arguments(options, image)
        planned = api.plan(
            image, load_model(options), output=becomes_store(output, export), **arguments
        )
        # What is measured once is not measured by the command that follows.
        measuring = api.seconds_measuring() - before
        passed = time.perf_counter() - options.started - measuring
        planned = api.of_command(planned, passed, clipped=export.get("clip") is not None)
    notes = [
        f"note: {escape_controls(with_flags(note))}"
        for note in (*planned.image.notes, *planned.notes)
    ]
    staged = planned.staged
    lines = [] if staged is None else [staged.summary(), staged.phases()]
    lines = [planned.summary(), planned.tiling(), planned.times(), *lines, *notes]
    return CommandResult(planned.to_dict(), "\n".join(lines))


def output_of_plan(options: Namespace, image: Any) -> Path:
    """Return the file whose writing is predicted: without -o one like the image."""
    given: str | None = options.output
    if given is None:
        return api.output_like(image)
    refuse_address(given)
    return Path(given)


def add_restore(parser: argparse.ArgumentParser) -> None:
    """Add the options of `restore`."""
    parser.set_defaults(run=restore)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="images to restore, or folders of them"
    )
    add_output(parser, "images")
    add_run_options(parser, planes=True)
    add_output_options(parser)


def restore(
    options: Namespace, interrupt: Interrupt | None = None, report: EventCallback | None = None
) -> CommandResult:
    """Restore one image into a file, or many into a folder.

    `interrupt` cancels it, by default Ctrl-C alone; `report` gets the events instead of stderr.
    """
    refuse_address(options.output)
    if isinstance(options.plane, str):
        return restore_planes(options, interrupt, report)
    paths = options.paths
    options.paths = images_in(paths)
    folder = options.paths != paths and not options.stack
    # Files that join are one image, if one file is to be written.
    joined = options.stack or (not folder and len(paths) > 1 and names_file(options.output))
    several = folder or (len(options.paths) > 1 and not joined)
    stacked = options.paths != paths and not names_file(options.output)
    if several or stacked:
        options.output = as_folder(options.output)
    into_folder = is_folder(options.output, options.paths, joined=joined)
    groups = [tuple(options.paths)] if joined else [(path,) for path in options.paths]
    items = items_of(groups, options, into_folder=into_folder)
    if folder:
        items = without_outputs(items)
        options.paths = [source for item in items for source in item.sources]
    read = read_files(options)
    check_files(items, read, Path(options.output) if into_folder else None)
    with Runner(options, interrupt, read, report=report) as runner:
        for hint in filter(None, map(api.hint_of_bands, paths)) if folder else ():
            runner.report(api.Note(f"Each file of the folder is an image of its own: {hint}"))
        # A folder with a single image has a summary, too.
        if len(items) > 1 or folder:
            return restore_folder(options, items, runner)
        item = items[0]
        runner.check(item)
        image = open_image(options, item.sources)
        model = load_model(options)
        if into_folder:
            item.output.parent.mkdir(exist_ok=True)
        record = runner.restore(item, image, model, plan_arguments(options, image))
    return CommandResult(record, summary_line(str(item.output), record), wrote_files=True)


def add_rerun(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rerun`."""
    parser.set_defaults(run=rerun)
    parser.add_argument("record", metavar="RECORD", help="the JSON file that --record wrote")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write here instead of to the output of the record"
    )
    add_overwrite(parser)
    add_yes(parser)
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="let a VRT take pixels from files outside its own folder, whatever the record says",
    )


def rerun(options: Namespace) -> CommandResult:
    """Repeat the run of a record."""
    record_file = api.read_record_file(options.record)
    if record_file.kind == "attribution":
        return repeat_attribute(options, record_file)
    if record_file.kind == "attention":
        return repeat_attend(options, record_file)
    if record_file.kind == "table":
        raise InputError(
            f"{record_file.path} is a table, which is made again by its command.",
            f"Run it: {record_file.record.get('command') or 'napari-restore attribute'}",
        )
    with Interrupt() as interrupt:
        planned, path, export = api.repeat_of(
            record_file, options.output, **consent_of(options, record_file)
        )
        item = Item((str(planned.image.path),), path, None, None)
        masks = filter(None, (planned.target.mask, planned.reading.exclude))
        others = (*map(api.mask_file, masks), planned.reading.context, options.record)
        read = identities([*item.sources, *(file for file in others if file is not None)])
        check_files([item], read)
        runner = Runner(options, interrupt, read, export)
        runner.check(item)
        record = runner.run(item, planned)
    return CommandResult(record, summary_line(item.output, record), wrote_files=True)


def summary_line(output: str | Path, record: Mapping[str, Any]) -> str:
    """Return what a command prints after it wrote `output`."""
    return f"wrote {escape_controls(str(output))} in {format_seconds(record['measured']['seconds'], tenths=True)}"
