"""What `attribute` and `attend` share: one computation of one image, its files and its record."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore.commands._arguments import command_of
from napari_restore.commands._checks import (
    check_files,
    files_among,
    identities,
    refuse_existing,
    refuse_input,
)
from napari_restore.commands._flags import with_flags
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._outputs import Item
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.errors import InputError, escape_controls
from napari_restore.questions import Drawing, part_of
from napari_restore.records import write_record


def item_of(sources: Sequence[str], output: str, record: str | None) -> Item:
    """Return the files of one computation."""
    return Item(tuple(sources), Path(output), None if record is None else Path(record), None)


def repeated(
    options: Namespace, record_file: Any, *more: str | None
) -> tuple[Item, frozenset[object]]:
    """Return the files of a `RecordFile` that is repeated, and what it reads, `more` among it.

    Raises `InputError` without an output.
    """
    record = record_file.record
    path = options.output or (record["output"] or {}).get("path")
    if path is None:
        raise InputError(f"{record_file.path} names no file to write.", "Name one with -o.")
    source = record["input"]["path"]
    item = item_of([] if source is None else [source], path, None)
    files = (record.get("task") or {}).get("files", {})
    return item, identities([*item.sources, record_file.path, *files_among([*more, *files])])


def check_outputs(
    options: Namespace, item: Item, read: frozenset[object], check_output: Callable[..., None]
) -> None:
    """Raise `BadOutput` for outputs that would replace a file; called before the computation.

    `check_output` checks the item's own output.
    """
    check_files([item], read)
    show_loading(options)
    check_output(item.output, overwrite=options.overwrite)
    if item.record is not None:
        refuse_existing(item.record, overwrite=options.overwrite)
    check_figure(options, read)


def check_figure(options: Namespace, read: frozenset[object]) -> None:
    """Raise `BadOutput` for a figure that could not be written; nothing without one."""
    figure = getattr(options, "figure", None)
    if figure is not None:
        refuse_input(Path(figure), read)
        api.check_figure(figure, overwrite=options.overwrite, **style_of(options))


def show_loading(options: Namespace) -> None:
    """Say what the first seconds of a command are for, before they are spent."""
    reporter(options.progress)(api.Phase("Loading torch and the network"))


def style_of(options: Namespace) -> dict[str, Any]:
    """Return the options of a figure as keywords; of a command without them none."""
    found = part_of(vars(options), Drawing)
    return {"width_mm" if name == "width" else name: value for name, value in found.items()}


def below(options: Namespace, caption: str) -> list[str]:
    """Return the lines of a figure's caption, where they are printed instead of drawn."""
    is_printed = getattr(options, "figure", None) is not None and not options.caption
    return ["", *map(escape_controls, caption.splitlines())] if is_printed else []


def explained(
    options: Namespace,
    item: Item,
    compute: Callable[..., Any],
    save: Callable[[Any], Mapping[str, Any]],
    figure: tuple[Callable[..., Any], Callable[[Any], str]],
    summary: Callable[[Path, dict[str, Any]], Sequence[str]],
) -> CommandResult:
    """Compute with Ctrl-C handling, write the files of `item`, and return the result.

    `compute` is given emit and stop, and returns what has a record; `save` writes it and returns what
    the record's output has beside path and digest; `figure` draws it and returns its caption;
    `summary` returns lines for the terminal.
    """
    show = reporter(options.progress)
    notes: list[str] = []

    def on_event(event: Any) -> None:
        if type(event).__name__ == "Note":
            notes.append(event.text)
        show(event)

    with Interrupt() as interrupt:
        with interrupt.watching(api.Stop()) as stop:
            found = compute(emit=on_event, stop=stop)
        for note in found.image.notes:
            on_event(api.Note(note))
        also, caption = save(found), []
        if getattr(options, "figure", None) is not None:
            draw, caption_of = figure
            draw(found, options.figure, overwrite=options.overwrite, **style_of(options))
            caption = below(options, caption_of(found))
    record = {
        **found.record,
        "output": {**found.record["output"], **also},
        "command": command_of(options),
        "notes": notes,
        "measured": {
            **found.record["measured"],
            "seconds": time.perf_counter() - options.started,
            "run_seconds": found.record["measured"]["seconds"],
        },
    }
    if item.record is not None:
        write_record(item.record, with_flags(record))
    lines = [*summary(item.output, record), *caption]
    return CommandResult(record, "\n".join(lines), wrote_files=True)
