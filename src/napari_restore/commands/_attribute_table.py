"""`attribute` of many boxes, models or images: a table."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_restore.api import Stop
from napari_restore.commands._arguments import may_run_code, open_attributed
from napari_restore.commands._attribute_options import attribute_options, polygon_of
from napari_restore.commands._checks import files_among, identities, read_files, refuse_input
from napari_restore.commands._flags import with_flags
from napari_restore.commands._interrupt import Interrupt, interrupt_of
from napari_restore.commands._outputs import SHARED
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.commands._streams import write_error
from napari_restore.errors import BadParameter, Cancelled, InputError, escape_controls


def is_table(options: Namespace) -> bool:
    """Return whether several maps are requested, and so a table of their measures."""
    images = 1 if options.stack or options.bracket else len(options.paths)
    return options.boxes is not None or len(options.models) > 1 or images > 1


def attribute_table(options: Namespace) -> CommandResult:
    """Attribute every box of every image for every model; the exit code is that of the first failure."""
    from napari_restore import api

    for name in ("figure", "record"):
        if getattr(options, name) is not None:
            raise BadParameter(
                f"--{name} is for one map, but a table has many.",
                "Use one --model and one --box for it; the .json of a table is its record.",
            )
    boxes = [api.Region.from_xywh(*options.box)] if options.box is not None else None
    places = api.boxes_of(options.boxes if boxes is None else boxes, polygon_of(options))
    _check_shared(options, places)
    _check_written(options, places)
    stop = Stop()
    with interrupt_of(options) as interrupt:
        interrupt.watch(stop)
        try:
            images = list(options.paths)
            if (options.stack or options.bracket) and images:
                images = [open_attributed(options, images)]
            table = api.attribute_table(
                images,
                options.models,
                places,
                bands=options.bands,
                sensor=options.sensor,
                allow_outside=options.allow_outside,
                weights=options.weights,
                parameters=dict(options.set),
                trust=may_run_code(options.models, yes=options.yes),
                extra={"command": shlex.join(["napari-restore", *options.argv])},
                emit=reporter(options.progress),
                stop=stop,
                cluster=options.cluster,
                **attribute_options(options),
            )
        finally:
            interrupt.leave()
        return _save(options, table, options.outputs)


def repeat_table(options: Namespace, record_file: Any) -> CommandResult:
    """Repeat all attributions of a `RecordFile` of a table, and compare the rows."""
    from napari_restore import api

    if options.output is None:
        raise InputError(
            f"{record_file.path} is the record of a table, which names no output file.",
            "Name one with -o.",
        )
    task = record_file.record.get("task") or {"images": [], "files": {}}
    named = [record_file.record["question"].get("baseline"), *task["files"]]
    for image in task["images"]:
        source = image["spec"]["source"]
        named += [source] if isinstance(source, str) else source
    read = identities([record_file.path, *files_among(named)])
    refuse_input(Path(options.output), read)
    api.check_table(options.output, overwrite=options.overwrite)
    stop = Stop()
    with Interrupt() as interrupt:
        interrupt.watch(stop)
        try:
            table = api.repeat_table(
                record_file,
                extra={"command": shlex.join(["napari-restore", *options.argv])},
                emit=reporter(options.progress),
                stop=stop,
                trust=may_run_code(record_file.models, yes=options.yes),
                allow_outside=options.allow_outside,
            )
        finally:
            interrupt.leave()
        return _save(options, table, [options.output])


def _check_shared(options: Namespace, places: list[Any]) -> None:
    """Raise `BadParameter` for statistics shared by several images, which only `restore` computes."""
    named = {place.image for place in places} - {None}
    images = 1 if options.stack or options.bracket else len(options.paths) + len(named)
    if images > 1 and options.context in SHARED:
        raise BadParameter(
            f"--context {options.context} is for images that are restored into a folder.",
            "Name the restore_context.npz in that folder, or leave it out.",
        )


def _check_written(options: Namespace, places: list[Any]) -> None:
    """Raise `BadOutput` for outputs that could not be written; called before the computation."""
    from napari_restore import api

    named = [options.baseline, options.boxes, *(place.image for place in places)]
    read = read_files(options) | identities(files_among(named))
    for output in options.outputs:
        refuse_input(Path(output), read)
        api.check_table(output, overwrite=options.overwrite)


def _save(options: Namespace, table: Any, outputs: Sequence[str]) -> CommandResult:
    """Save a table, report the failed rows, and return the result."""
    for output in outputs:
        table.save(output, overwrite=options.overwrite)
    data = table.to_dict()
    failed = [row for row in table.rows if row["error"] is not None]
    # One message per row, also with --progress off.
    for row in failed:
        write_error(f"{_where(row)}: {with_flags(row['error'])}")
    code = table.failures[0].exit_code if failed else 0
    if table.status == "cancelled":
        write_error(f"Stopped after {len(table.rows)} of {table.planned}; these are saved.")
        code = Cancelled.exit_code
    lines = [f"{table}", "", *(f"wrote {escape_controls(str(output))}" for output in outputs)]
    if "repeats" in data:
        repeats = data["repeats"]
        for each in repeats["apart"]:
            write_error(f"{_where(each)}: {each['column']} is {each['found']}, was {each['told']}.")
        lines.append(f"{repeats['same']} of {repeats['rows']} rows are as in {repeats['record']}")
    return CommandResult(data, "\n".join(lines), code)


def _where(row: Mapping[str, Any]) -> str:
    return f"{Path(row['image']).name}, box {row['name']}, {row['model']}"
