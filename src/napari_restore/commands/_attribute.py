"""`attribute`: a map of the pixels that made a result."""

from __future__ import annotations

import argparse
import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_restore._format import format_seconds
from napari_restore.commands._answer import Answer
from napari_restore.commands._arguments import load_models, open_image, trusted_record
from napari_restore.commands._attribute_table import attribute_table, is_table
from napari_restore.commands._checks import (
    check_files,
    files_among,
    identities,
    read_files,
    refuse_existing,
    refuse_input,
)
from napari_restore.commands._interrupt import Interrupt, Stop
from napari_restore.commands._options import (
    add_context,
    add_exclude,
    add_machine,
    add_model,
    add_range,
    add_source,
)
from napari_restore.commands._outputs import Item
from napari_restore.commands._progress import reporter
from napari_restore.commands._question import add_question, polygon_of, question_of
from napari_restore.errors import InputError, escape_controls
from napari_restore.records import write_record

STOP, THROUGH = "stop", "through"
FAR = 128
"""Pixels from the box beyond which a share is told."""
NEGLIGIBLE = 0.005
"""Share of a change up to which a map without it leaves nothing out."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments but for the paths."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        action="append",
        dest="outputs",
        metavar="OUT",
        help="the map to write (.tif .zarr), float32 on the image's map: the sum, then each band; for "
        "several boxes, models or images a table (.csv .json .tex), and may be repeated",
    )
    add_source(parser)
    add_model(parser, several=True)
    add_question(parser)
    values = parser.add_argument_group("values")
    add_range(values)
    add_exclude(values)
    add_context(add_machine(parser))
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace files that exist")
    output.add_argument(
        "--figure", metavar="FILE", help="also draw it, with all that was asked (.png .pdf .svg)"
    )
    output.add_argument("--record", metavar="FILE", help="also write the record, which says all")


def attribute(options: Namespace) -> Answer:
    """Ask one model about one place of one image, or make a table of many."""
    from napari_restore import api

    if is_table(options):
        return attribute_table(options)
    item = _item(options.paths, _one_output(options), options.record)
    named = files_among([options.baseline])
    _check_written(
        options, item, read_files(options) | identities(named), options.context_gradient != STOP
    )

    def ask(**told: Any) -> Any:
        return api.attribute(
            open_image(options, options.paths),
            load_models(options)[0].model,
            None if options.box is None else api.Region.from_xywh(*options.box),
            polygon=polygon_of(options),
            **question_of(options),
            **told,
        )

    return _answer(options, item, ask)


def _one_output(options: Namespace) -> str:
    """The map's name; raises `InputError`, also where nothing is named to read."""
    if not options.paths:
        raise InputError("No image is given.", "Name it: napari-restore attribute PATH.")
    if len(options.outputs) > 1:
        raise InputError("A map has one file.", "Give one -o; the record is another: --record.")
    name: str = options.outputs[0]
    return name


def attribute_again(options: Namespace, recorded: Any) -> Answer:
    """Ask once more what `recorded`, a `RecordFile`, tells of."""
    from napari_restore import api

    told = recorded.told
    path = options.output or (told["output"] or {}).get("path")
    if path is None:
        raise InputError(f"{recorded.path} names no file to write.", "Name one with -o.")
    source = told["input"]["path"]
    item = _item([] if source is None else [source], path, None)
    task = told.get("task") or {"question": {}}
    named = files_among([task["question"].get("baseline"), *task.get("files", {})])
    read = identities([*item.sources, recorded.path, *named])
    _check_written(options, item, read, task["question"].get("context_gradient") == THROUGH)
    return _answer(
        options,
        item,
        partial(
            api.repeat_attribution,
            recorded,
            trust=trusted_record(recorded, options),
            allow_outside=options.allow_outside,
        ),
    )


def _check_written(options: Namespace, item: Item, read: frozenset[object], through: bool) -> None:
    """Refuse what would replace something, before anything is computed. Raises `BadOutput`."""
    from napari_restore import api

    check_files([item], read)
    refuse_existing(item.output, overwrite=options.overwrite)
    if through:
        overview = api.overview_path(item.output)
        refuse_input(overview, read)
        refuse_existing(overview, overwrite=options.overwrite)
    if item.record is not None:
        refuse_existing(item.record, overwrite=options.overwrite)
    figure = getattr(options, "figure", None)
    if figure is not None:
        refuse_input(Path(figure), read)
        api.check_figure(figure, overwrite=options.overwrite)


def _item(sources: Sequence[str], output: str, record: str | None) -> Item:
    return Item(tuple(sources), Path(output), None if record is None else Path(record), None)


def _answer(options: Namespace, item: Item, ask: Callable[..., Any]) -> Answer:
    """Ask under Ctrl-C, write what `item` names, and tell of it."""
    from napari_restore import api

    figure = getattr(options, "figure", None)
    tell = reporter(options.progress)
    notes: list[str] = []

    def report(event: Any) -> None:
        if type(event).__name__ == "Note":
            notes.append(event.text)
        tell(event)

    stop = Stop()
    with Interrupt() as interrupt:
        interrupt.watch(stop)
        try:
            found = ask(emit=report, stop=stop)
        finally:
            interrupt.leave()
        found.save(item.output, overwrite=options.overwrite)
        if figure is not None:
            api.draw_attribution(found, figure, overwrite=options.overwrite)
    record = {
        **found.record,
        "command": shlex.join(["napari-restore", *options.words]),
        "notes": notes,
        "measured": {
            **found.record["measured"],
            "seconds": time.perf_counter() - options.began,
            "run_seconds": found.record["measured"]["seconds"],
        },
    }
    if item.record is not None:
        write_record(item.record, record)
    return Answer(record, "\n".join(_sentences(item.output, record)), wrote_files=True)


def _sentences(output: Path, record: dict[str, Any]) -> list[str]:
    told = record["attribution"]
    rings = told["rings"]
    far = [share for name, share in rings.items() if name != "box" and _from(name) >= FAR]
    index = told["diffusion_index"]
    also = "" if told["overview_share"] == 0 else " and its overview's"
    lines = [
        f"wrote {output}{also} in {format_seconds(record['measured']['seconds'], tenths=True)}",
        f"{told['objective']} in the box, {_way(told)}: {_trust(told)}",
        *_context(told["context"]),
        f"in the box {rings['box']:.1%}, beyond {FAR} pixels {sum(far):.1%}"
        + ("" if index is None else f", diffusion index {index:.1f}"),
        *(_checked(name, found) for name, found in told.get("checks", {}).items()),
    ]
    return [escape_controls(line) for line in lines]


def _context(told: Mapping[str, Any]) -> list[str]:
    """What became of the context; nothing where the model has none."""
    if told["used"] == "none":
        return []
    share = "" if told["share"] is None else f"{told['share']:.0%} of the change came through it"
    if told["used"] == THROUGH:
        return [
            f"gradient through the context ({told['reason']})" + (f": {share}" if share else "")
        ]
    if not share:
        return [f"context constant ({told['reason']}); its share of the change is not known"]
    return [
        f"context constant ({told['reason']}): {share} and is not in this map"
        + ("" if told["share"] < NEGLIGIBLE else "; --context-gradient through includes it")
    ]


def _way(told: Mapping[str, Any]) -> str:
    start = "" if told["baseline"] is None else f" from {told['baseline']}"
    if told["path"] is None:
        return f"by {told['method']}{start}"
    return f"along the {told['path']} path{start}"


def _trust(told: Mapping[str, Any]) -> str:
    complete = told["completeness"]
    gap, steps = complete["relative_gap"], len(told["nodes"])
    if complete["sum"] is None:
        return "shares that need not add up to anything"
    if gap is None:
        return "the result in the box hardly differs along the path, so no gap can be told"
    trust = f"completeness gap {gap:.2%}" + (f" after {steps} steps" if steps else "")
    if not complete["reached"]:
        trust += f", more than the {complete['goal']:.2%} asked for: read the map with care"
    return trust


def _checked(name: str, found: Mapping[str, Any]) -> str:
    curves = [(curve, found[curve]) for curve in ("insertion", "deletion")]
    if any(told["area"] is None for _, told in curves):
        return f"{name}: image and baseline hardly differ, so nothing can be told"
    areas = [
        f"area {told['area']:.3f} under {curve} (by distance from the box {told['nearest_area']:.3f}, "
        f"in random order {told['random_area']:.3f})"
        for curve, told in curves
    ]
    return ", ".join(areas) + f", from {found['baseline']}"


def _from(ring: str) -> int:
    """Where a ring such as "8-16" begins."""
    return int(ring.partition("-")[0])
