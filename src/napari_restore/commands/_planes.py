"""`restore --planes`: the planes of a stack as the images of a folder, joined at the end."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import format_seconds
from napari_restore.commands._arguments import open_image
from napari_restore.commands._checks import check_files, read_files
from napari_restore.commands._folder import restore_folder
from napari_restore.commands._interrupt import Interrupt, interrupt_of
from napari_restore.commands._outputs import Item, images_in
from napari_restore.commands._progress import EventCallback
from napari_restore.commands._result import CommandResult
from napari_restore.commands._runner import Runner, export_options
from napari_restore.errors import BadOutput, InputError, escape_controls, option


def restore_planes(
    options: Namespace, interrupt: Interrupt | None = None, report: EventCallback | None = None
) -> CommandResult:
    """Restore planes of one file into one file; see `restore`.

    Each plane is restored into a folder beside the output, where the same command finds those that
    are finished, and removes them once they are joined.
    """
    source = _only_source(options)
    target = Path(options.output)
    image = open_image(options, [source], plane=0)
    numbers = api.planes_asked(options.planes, image.planes, image.name)
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
    with (
        interrupt or interrupt_of(options) as interrupt,
        Runner(each, interrupt, read, export, report=report) as runner,
    ):
        result = restore_folder(each, items, runner)
        if result.exit_code:
            failed = result.data["failed"]
            text = f"{failed} of {len(items)} planes failed, so that none were joined"
            return CommandResult(result.data, text, result.exit_code, wrote_files=True)
        runner.phase("Joining planes")
        origin = _origin(result.data["images"][0])
        api.join_planes(
            [item.output for item in items],
            target,
            like=image,
            planes=planes,
            origin=origin,
            overwrite=options.overwrite,
            progress=runner.progress,
            cancelled=lambda: interrupt.requested,
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
            f"{option('planes')} takes the planes of one file.",
            "Restore the stacks one by one.",
        )
    if options.plane is not None:
        raise InputError(
            f"{option('plane')} names one plane, {option('planes')} several.",
            "Give one of the two.",
        )
    if options.record is not None:
        raise InputError(
            "A run over several planes writes no record, and cannot be repeated by rerun.",
            f"Leave {option('write_record()')} out, or restore one with {option('plane')}.",
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
