"""`attribute` of many boxes, models or images: a table."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_restore.commands._answer import Answer
from napari_restore.commands._arguments import open_image, trusted, trusted_record
from napari_restore.commands._checks import files_among, identities, read_files, refuse_input
from napari_restore.commands._interrupt import Interrupt, Stop
from napari_restore.commands._outputs import SHARED
from napari_restore.commands._progress import reporter
from napari_restore.commands._question import polygon_of, question_of
from napari_restore.commands._streams import write_error
from napari_restore.errors import BadParameter, Cancelled, InputError, escape_controls


def is_table(options: Namespace) -> bool:
    """Whether more than one map is asked for, and so a table of what they measure."""
    images = 1 if options.stack else len(options.paths)
    return options.boxes is not None or len(options.models) > 1 or images > 1


def attribute_table(options: Namespace) -> Answer:
    """Ask every model about every box of every image; the exit code is that of the first failure."""
    from napari_restore import api

    for name in ("figure", "record"):
        if getattr(options, name) is not None:
            raise BadParameter(
                f"--{name} is of one map, and a table has many.",
                "Ask one model about one --box for that; a table's .json is its record.",
            )
    boxes = [api.Region.from_xywh(*options.box)] if options.box is not None else None
    places = api.boxes_of(options.boxes if boxes is None else boxes, polygon_of(options))
    _check_shared(options, places)
    _check_written(options, places)
    stop = Stop()
    with Interrupt() as interrupt:
        interrupt.watch(stop)
        try:
            images = list(options.paths)
            if options.stack and images:
                images = [open_image(options, images)]
            table = api.attribute_table(
                images,
                options.models,
                places,
                bands=options.bands,
                sensor=options.sensor,
                allow_outside=options.allow_outside,
                weights=options.weights,
                parameters=dict(options.set),
                trust=trusted(options.models, yes=options.yes),
                extra={"command": shlex.join(["napari-restore", *options.words])},
                emit=reporter(options.progress),
                stop=stop,
                **question_of(options),
            )
        finally:
            interrupt.leave()
        return _written(options, table, options.outputs)


def table_again(options: Namespace, recorded: Any) -> Answer:
    """Ask all once more that `recorded`, a `RecordFile` of a table, tells of, and compare."""
    from napari_restore import api

    if options.output is None:
        raise InputError(
            f"{recorded.path} is the record of a table, which names no file to write.",
            "Name one with -o.",
        )
    task = record_file.record.get("task") or {"images": [], "files": {}}
    named = [record_file.record["question"].get("baseline"), *task["files"]]
    for image in task["images"]:
        source = image["spec"]["source"]
        named += [source] if isinstance(source, str) else source
    read = identities([recorded.path, *files_among(named)])
    refuse_input(Path(options.output), read)
    api.check_table(options.output, overwrite=options.overwrite)
    stop = Stop()
    with Interrupt() as interrupt:
        interrupt.watch(stop)
        try:
            table = api.repeat_table(
                recorded,
                extra={"command": shlex.join(["napari-restore", *options.words])},
                emit=reporter(options.progress),
                stop=stop,
                trust=trusted_record(recorded, options),
                allow_outside=options.allow_outside,
            )
        finally:
            interrupt.leave()
        return _written(options, table, [options.output])


def _check_shared(options: Namespace, places: list[Any]) -> None:
    """Refuse statistics that many images would share: what they are is kept beside results only."""
    named = {place.image for place in places} - {None}
    images = 1 if options.stack else len(options.paths) + len(named)
    if images > 1 and options.context in SHARED:
        raise BadParameter(
            f"--context {options.context} is of images that are restored into a folder.",
            "Name the restore_context.npz in that folder, or leave it out.",
        )


def _check_written(options: Namespace, places: list[Any]) -> None:
    """Refuse what could not be written, before anything is computed. Raises `BadOutput`."""
    from napari_restore import api

    named = [options.baseline, options.boxes, *(place.image for place in places)]
    read = read_files(options) | identities(files_among(named))
    for output in options.outputs:
        refuse_input(Path(output), read)
        api.check_table(output, overwrite=options.overwrite)


def _written(options: Namespace, table: Any, outputs: Sequence[str]) -> Answer:
    """Save a table, and tell of it and of what failed."""
    for output in outputs:
        table.save(output, overwrite=options.overwrite)
    told = table.to_dict()
    failed = [row for row in table.rows if row["error"] is not None]
    # One sentence each, also where notes are off.
    for row in failed:
        write_error(f"{_where(row)}: {row['error']}")
    code = table.failures[0].exit_code if failed else 0
    if table.status == "cancelled":
        write_error(f"Stopped after {len(table.rows)} of {table.planned}; these are kept.")
        code = Cancelled.exit_code
    lines = [f"{table}", "", *(f"wrote {escape_controls(str(output))}" for output in outputs)]
    if "repeats" in told:
        repeats = told["repeats"]
        for each in repeats["apart"]:
            write_error(f"{_where(each)}: {each['column']} is {each['found']}, was {each['told']}.")
        lines.append(f"{repeats['same']} of {repeats['rows']} rows are as in {repeats['record']}")
    return Answer(told, "\n".join(lines), code)


def _where(row: Mapping[str, Any]) -> str:
    return f"{Path(row['image']).name}, box {row['name']}, {row['model']}"
