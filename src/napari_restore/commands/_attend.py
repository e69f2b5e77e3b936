"""`attend`: what each attention head of a network attends to for some queries in an image."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import columns, format_seconds
from napari_restore.commands._arguments import consent_of, context_of, load_model, open_attributed
from napari_restore.commands._checks import files_among, identities, read_files, refuse_input
from napari_restore.commands._explained import check_outputs, explained, item_of, repeated
from napari_restore.commands._options import (
    add_explained_image,
    add_model,
    add_options,
    add_overwrite,
    add_reading,
    given,
)
from napari_restore.commands._outputs import Item
from napari_restore.commands._result import CommandResult
from napari_restore.errors import InputError, escape_controls
from napari_restore.questions import Attend, Drawing, Machine, Reading, options_of
from napari_restore.records import check_file

ALL = "all"
RASTERS = (".tif", ".tiff", ".zarr")
TABLES = (".csv", ".npz")
OPTIONS = tuple(options_of(Attend, Reading, Machine))


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of `attend`."""
    parser.set_defaults(run=attend)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="the image (with --stack its bands)"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="by its suffix: .tif or .zarr, the maps of one query and layer at the resolution of the "
        "network's cells, georeferenced, a band for each head; .npz, weights and cells of all "
        "queries and layers; .csv, the numbers of all heads",
    )
    add_explained_image(parser)
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
        help="a box instead: the mean of its cells; with --sample the part to draw in",
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
    add_options(group, Attend)
    group.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="show the network level N of the image's pyramid instead of full resolution (0), which is "
        "another question; queries are pixels of that level",
    )
    add_reading(parser)
    output = add_overwrite(parser)
    output.add_argument(
        "--figure",
        metavar="FILE",
        help="also draw the maps of the first query with all settings (.png .pdf .svg)",
    )
    add_options(output, Drawing, "width", "limits", "caption")
    output.add_argument("--summary", metavar="FILE.csv", help="also write the means of --sample")
    output.add_argument("--record", metavar="FILE", help="also write the record")


def attend(options: Namespace) -> CommandResult:
    """Show the attention of one model for some queries in one image."""
    if not options.paths:
        raise InputError("No image is given.", "Name it: napari-restore attend PATH.")
    queries = _queries(options)
    _check_sample(options)
    layers = ALL if not options.layer or ALL in options.layer else options.layer
    _check_raster(options, options.sample or len(queries), layers)
    item = item_of(options.paths, options.output, options.record)
    read = read_files(options) | identities(files_among([options.queries, options.attribution]))
    check_outputs(options, item, read, api.check_attention)
    if options.summary is not None:
        refuse_input(Path(options.summary), read)
        check_file(Path(options.summary), "summary", "--summary", overwrite=options.overwrite)

    def attend(**callbacks: Any) -> Any:
        model = load_model(options)
        api.check_head(model, layers, options.head)
        return api.attend(
            open_attributed(options, options.paths).level_view(options.level),
            model,
            queries,
            layers=layers,
            **given(options, OPTIONS) | {"context": context_of(options)},
            **callbacks,
        )

    return _result(options, item, attend)


def repeat_attend(options: Namespace, record_file: Any) -> CommandResult:
    """Repeat the attention of a `RecordFile`."""
    item, read = repeated(options, record_file)
    check_outputs(options, item, read, api.check_attention)
    repeat = partial(api.repeat_attention, record_file, **consent_of(options, record_file))
    return _result(options, item, repeat, (record_file.record["output"] or {}).get("head"))


def _queries(options: Namespace) -> list[Any]:
    """Return the queries; raises `InputError` where there are none."""
    found: list[Any] = [(y, x) for x, y in options.query]
    if options.box is not None:
        found.append(api.Region.from_xywh(*options.box))
    if options.queries is not None:
        found += api.queries_of(options.queries)
    if not found and options.sample is None:
        raise InputError("No place is given.", "Name a pixel: --query X Y.")
    return found


def _check_sample(options: Namespace) -> None:
    """Raise `InputError` for queries beside a sample, and a summary without one."""
    if options.sample is None and options.summary is not None:
        raise InputError("--summary is that of a sample.", "Add --sample 256, or leave it out.")
    if options.sample is not None and (options.query or options.queries is not None):
        raise InputError(
            "--sample draws its own queries.", "Leave out --query and --queries; --box may stay."
        )
    if options.summary is not None and Path(options.summary).suffix.lower() != ".csv":
        raise InputError(f"{options.summary} is no table.", "Give a name that ends in .csv.")
    outputs = [options.output, options.record, options.figure]
    if options.summary is not None and options.summary in outputs:
        raise InputError(f"{options.summary} would be written twice.", "Choose another name.")


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
    if suffix in RASTERS and options.ablate and options.head in ("mean", "max"):
        raise InputError(
            f"A network cannot be run without the {options.head} of its heads.",
            "Name a head, or leave --head out for a band of each.",
        )


def _result(
    options: Namespace, item: Item, attend: Callable[..., Any], head: str | None = None
) -> CommandResult:
    """Attend, write the files of `item`, and return the result; `head` is that of a record."""
    head = head or getattr(options, "head", ALL)

    def save(attention: Any) -> dict[str, Any]:
        if attention.queries[0].effects and item.output.suffix.lower() in RASTERS:
            layer = attention.layers[0]
            attention.save_effects(item.output, layer=layer, head=head, overwrite=options.overwrite)
        else:
            attention.save(item.output, head=head, overwrite=options.overwrite)
        if getattr(options, "summary", None) is not None:
            attention.save_summary(options.summary, overwrite=options.overwrite)
        return {"head": head}

    figure = (api.draw_attention, api.attention_caption)
    return explained(options, item, attend, save, figure, attention_lines)


MISSING = "–"
NUMBERS = {
    "entropy": ("entropy", ".3f"),
    "effective_cells": ("cells", ".1f"),
    "distance_px": ("distance", ".1f"),
}
MEANS = {
    **NUMBERS,
    "equal_distance_px": ("equal", ".1f"),
    "window_share": ("window", ".3f"),
    "tile_share": ("tile", ".3f"),
}
ASKED = {
    "attribution_rank": ("attribution", ".3f"),
    "without_db": ("without", ".1f"),
    "importance": ("importance", ".2e"),
}
"""Titles and formats of numbers: of every head, of a sample, and of those that were asked for."""
LEGENDS = {
    "attribution_rank": "attribution: Spearman's rank correlation of weights and attribution, over the candidates.",
    "without_db": "without: PSNR of the result without the head to the result, in dB; low: it matters.",
    "importance": "importance: the result at the query minus that without the head, to first order.",
}
TWIN = "  random weights"
Rows = Sequence[tuple[str, Mapping[str, Any]]]
"""Layers, and the numbers of a head."""


def attention_lines(output: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the summary of a record: the numbers of every head of the first query, or of the sample."""
    seconds = format_seconds(record["measured"]["seconds"], tenths=True)
    attention = record["attention"]
    lines = [f"wrote {output} in {seconds}"]
    lines += _of_sample(attention) if "summary" in attention else _of_query(attention)
    lines += _of_redundancy(attention.get("redundancy", {}))
    lines += [f"{kind.title}: {kind.says}" for kind in api.kinds_in(attention)]
    return [escape_controls(line) for line in lines]


def _of_query(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield the numbers of the first query, those of random weights below each layer's."""
    first, rows = attention["queries"][0], []
    for layer, heads in first["measures"].items():
        rows += [(layer, head) for head in heads]
        rows += [(TWIN, head) for head in first.get("random_twin", {}).get(layer, ())]
    asked = {name: how for name, how in ASKED.items() if any(name in head for _, head in rows)}
    yield from _table(NUMBERS | asked, rows)
    yield from (LEGENDS[name] for name in asked)
    yield "entropy 1: equal weights; cells: how many that would be; distance: mean, in pixels."


def _of_redundancy(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield for each layer how alike its heads are."""
    if not found:
        return
    rows = [("layer", "compared cells", "likeness of heads")]
    rows += [(k, f"{one['cells']}", _number(one["mean"]["cka"], ".3f")) for k, one in found.items()]
    yield from columns(rows).splitlines()
    yield "likeness: mean linear CKA of what two heads put out; 1: the same but for a rotation."


def _of_sample(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield the means of every head, those of random weights below each head's."""
    means: list[dict[str, Any]] = [
        {**head, **{name: head[name]["mean"] for name in MEANS}} for head in attention["summary"]
    ]
    count = len(means) // (2 if "random_twin" in attention else 1)
    rows = []
    for number, head in enumerate(means[:count]):
        rows.append((head["layer"], head))
        # In the same order.
        rows += [(TWIN, other) for other in means[count + number :][:1]]
    yield from _table(MEANS, rows)
    yield (
        f"Means over {len(attention['queries'])} queries. entropy 1: equal weights; "
        "cells: how many that would be; distance: mean, in pixels; equal: the same of equal weights; "
        "window, tile: shares of the weights in the query's own."
    )


def _table(shown: Mapping[str, tuple[str, str]], rows: Rows) -> list[str]:
    """Return the lines of a table of heads, with these of their numbers."""
    cells = [("layer", "head", *(title for title, _ in shown.values()))]
    for layer, head in rows:
        numbers = (_number(head.get(name), form) for name, (_, form) in shown.items())
        cells.append((layer, head["head"], *numbers))
    return columns(cells).splitlines()


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
