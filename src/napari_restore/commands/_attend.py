"""`attend`: what each attention head of a network looks at for some places of an image."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_restore._format import format_seconds
from napari_restore._options import MachineOptions, ReadingOptions, names_of
from napari_restore.commands._arguments import (
    context_of,
    load_model,
    may_run_code,
    open_attributed,
)
from napari_restore.commands._checks import (
    files_among,
    identities,
    read_files,
)
from napari_restore.commands._explained import (
    check_outputs,
    explained,
    item_of,
    repeated_item,
)
from napari_restore.commands._options import (
    add_bracket_options,
    add_context,
    add_exclude,
    add_machine,
    add_model,
    add_range,
    add_source,
    given,
)
from napari_restore.commands._outputs import Item
from napari_restore.commands._result import CommandResult
from napari_restore.errors import InputError, escape_controls

ALL = "all"
RASTERS = (".tif", ".tiff", ".zarr")
TABLES = (".csv", ".npz")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, except for the paths."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="by its suffix: .tif or .zarr, the maps of one query and layer at the resolution of the "
        "network's cells, georeferenced, a band for each head; .npz, weights and cells of all "
        "queries and layers; .csv, the numbers of all heads",
    )
    add_source(parser)
    bracket = parser.add_argument_group("bracket, for models that fuse")
    bracket.add_argument(
        "--bracket", action="store_true", help="take the images as the frames of one bracket"
    )
    add_bracket_options(bracket)
    add_model(parser)
    group = parser.add_argument_group("attention")
    group.add_argument(
        "--query",
        nargs=2,
        type=int,
        action="append",
        default=[],
        metavar=("X", "Y"),
        help="the pixel whose attention is shown; may be repeated",
    )
    group.add_argument(
        "--box",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="a box instead: the mean of its cells",
    )
    group.add_argument(
        "--queries", metavar="CSV", help="a table of pixels: columns x, y and optionally name"
    )
    group.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="NAME|all",
        help="a layer, as `napari-restore models ID` names them (default: all); may be repeated",
    )
    group.add_argument(
        "--head",
        default=ALL,
        metavar="NAME|mean|max|all",
        help="the head that a raster is of (default: all, a band for each)",
    )
    group.add_argument(
        "--attended-by",
        action="store_true",
        help="the other way around: which cells attend to the query's, in layers of a bottleneck",
    )
    group.add_argument(
        "--ablate",
        action="store_true",
        help="also run the network without each head of the layer, around the query or in the box: "
        "a raster is then the result without a head minus the result, a band for each head",
    )
    group.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="show the network level N of the image's pyramid instead of full resolution (0), which is "
        "another question; queries are pixels of that level",
    )
    values = parser.add_argument_group("values")
    add_range(values)
    add_exclude(values)
    add_context(add_machine(parser))
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace files that exist")
    output.add_argument(
        "--figure",
        metavar="FILE",
        help="also draw the maps of the first query with all settings (.png .pdf .svg)",
    )
    output.add_argument("--record", metavar="FILE", help="also write the record")


def attend(options: Namespace) -> CommandResult:
    """Show the attention of one model for some places of one image."""
    from napari_restore import api

    if not options.paths:
        raise InputError("No image is given.", "Name it: napari-restore attend PATH.")
    queries = _queries(options)
    layers = ALL if not options.layer or ALL in options.layer else options.layer
    _check_raster(options, len(queries), layers)
    item = item_of(options.paths, options.output, options.record)
    read = read_files(options) | identities(files_among([options.queries]))
    check_outputs(options, item, read, api.check_attention)

    def look(**callbacks: Any) -> Any:
        model = load_model(options)
        api.check_head(model, layers, options.head)
        return api.attend(
            open_attributed(options, options.paths).level_view(options.level),
            model,
            queries,
            layers=layers,
            attended_by=options.attended_by,
            ablate=options.ablate,
            **given(options, names_of(ReadingOptions) + names_of(MachineOptions))
            | {"context": context_of(options)},
            **callbacks,
        )

    return _result(options, item, look)


def repeat_attend(options: Namespace, record_file: Any) -> CommandResult:
    """Repeat the look of a `RecordFile` at attention."""
    from napari_restore import api

    record = record_file.record
    item = repeated_item(options, record_file)
    task = record.get("task") or {}
    read = identities([*item.sources, record_file.path, *files_among(task.get("files", {}))])
    check_outputs(options, item, read, api.check_attention)
    repeat = partial(
        api.repeat_attention,
        record_file,
        trust=may_run_code(record_file.models, yes=options.yes),
        allow_outside=options.allow_outside,
    )
    return _result(options, item, repeat, (record["output"] or {}).get("head"))


def _queries(options: Namespace) -> list[Any]:
    """Return the places that are asked for; raises `InputError` where there are none."""
    from napari_restore import api

    found: list[Any] = [(y, x) for x, y in options.query]
    if options.box is not None:
        found.append(api.Region.from_xywh(*options.box))
    if options.queries is not None:
        found += api.queries_of(options.queries)
    if not found:
        raise InputError("No place is given.", "Name a pixel: --query X Y.")
    return found


def _check_raster(options: Namespace, queries: int, layers: str | Sequence[str]) -> None:
    """Raise `InputError` for a raster of several queries or layers, and for a head of no raster."""
    name = Path(options.output).name
    suffix = Path(name).suffix.lower()
    if suffix in RASTERS and (queries > 1 or layers == ALL or len(layers) > 1):
        raise InputError(
            f"{name} is a raster, which has one query and one layer.",
            "Name one with --layer, or write a .npz or .csv of all.",
        )
    if suffix in TABLES and options.head != ALL:
        raise InputError(
            f"--head chooses the band of a raster, but {name} has all heads.",
            "Leave it out, or write a .tif or .zarr.",
        )


def _result(
    options: Namespace, item: Item, look: Callable[..., Any], head: str | None = None
) -> CommandResult:
    """Look, write the files of `item`, and return the result; `head` is that of a record."""
    from napari_restore import api

    head = head or getattr(options, "head", ALL)

    def save(attention: Any) -> dict[str, Any]:
        if attention.queries[0].effects and item.output.suffix.lower() in RASTERS:
            attention.save_effects(
                item.output, layer=attention.layers[0], overwrite=options.overwrite
            )
        else:
            attention.save(item.output, head=head, overwrite=options.overwrite)
        if getattr(options, "figure", None) is not None:
            api.draw_attention(attention, options.figure, overwrite=options.overwrite)
        return {"head": head}

    return explained(options, item, look, save, _summary_lines)


def _summary_lines(output: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the summary for the terminal: the numbers of every head of the first query."""
    seconds = format_seconds(record["measured"]["seconds"], tenths=True)
    attention = record["attention"]
    first = attention["queries"][0]
    ablated = any("without_db" in head for heads in first["measures"].values() for head in heads)
    lines = [
        f"wrote {output} in {seconds}",
        f"{'layer':22} {'head':10} {'entropy':>8} {'cells':>8} {'distance':>9}{'  without' * ablated}",
    ]
    for name, heads in first["measures"].items():
        for number in heads:
            lines.append(f"{name:22} {number['head']:10} {_numbers(number)}")
    if ablated:
        lines.append(
            "without: PSNR of the result without the head to the result, in dB; low: it matters."
        )
    lines.append(
        "entropy 1: equal weights; cells: how many that would be; distance: mean, in pixels. "
        "Where the network looked, not why."
    )
    return [escape_controls(line) for line in lines]


def _numbers(head: Mapping[str, Any]) -> str:
    columns = [("entropy", "8.3f"), ("effective_cells", "8.1f"), ("distance_px", "9.1f")]
    columns += [("without_db", "8.1f")] if "without_db" in head else []
    return " ".join(
        format("–", f">{form.split('.')[0]}")
        if head.get(name) is None
        else format(head[name], form)
        for name, form in columns
    )
