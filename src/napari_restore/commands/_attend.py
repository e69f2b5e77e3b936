"""`attend`: what each attention head of a network looks at for some places of an image."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import format_seconds
from napari_restore.commands._arguments import context_of, load_model, may_run_code, open_attributed
from napari_restore.commands._checks import files_among, identities, read_files, refuse_input
from napari_restore.commands._explained import check_outputs, explained, item_of, repeated_item
from napari_restore.commands._options import (
    add_explained_image,
    add_machine,
    add_model,
    add_option,
    add_options,
    add_overwrite,
    add_values,
    given,
)
from napari_restore.commands._outputs import Item
from napari_restore.commands._result import CommandResult
from napari_restore.errors import InputError, escape_controls
from napari_restore.questions import Attend, Machine, Reading, options_of
from napari_restore.records import check_file

ALL = "all"
RASTERS = (".tif", ".tiff", ".zarr")
TABLES = (".csv", ".npz")
OPTIONS = tuple(options_of(Attend, Reading, Machine))


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
    add_values(parser)
    add_option(add_machine(parser), "context")
    output = add_overwrite(parser)
    output.add_argument(
        "--figure",
        metavar="FILE",
        help="also draw the maps of the first query with all settings (.png .pdf .svg)",
    )
    output.add_argument("--summary", metavar="FILE.csv", help="also write the means of --sample")
    output.add_argument("--record", metavar="FILE", help="also write the record")


def attend(options: Namespace) -> CommandResult:
    """Show the attention of one model for some places of one image."""
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

    def look(**callbacks: Any) -> Any:
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

    return _result(options, item, look)


def repeat_attend(options: Namespace, record_file: Any) -> CommandResult:
    """Repeat the look of a `RecordFile` at attention."""
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
    found: list[Any] = [(y, x) for x, y in options.query]
    if options.box is not None:
        found.append(api.Region.from_xywh(*options.box))
    if options.queries is not None:
        found += api.queries_of(options.queries)
    if not found and options.sample is None:
        raise InputError("No place is given.", "Name a pixel: --query X Y.")
    return found


def _check_sample(options: Namespace) -> None:
    """Raise `InputError` for places beside a sample, and a summary without one."""
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
    options: Namespace, item: Item, look: Callable[..., Any], head: str | None = None
) -> CommandResult:
    """Look, write the files of `item`, and return the result; `head` is that of a record."""
    head = head or getattr(options, "head", ALL)

    def save(attention: Any) -> dict[str, Any]:
        if attention.queries[0].effects and item.output.suffix.lower() in RASTERS:
            layer = attention.layers[0]
            attention.save_effects(item.output, layer=layer, head=head, overwrite=options.overwrite)
        else:
            attention.save(item.output, head=head, overwrite=options.overwrite)
        if getattr(options, "figure", None) is not None:
            api.draw_attention(attention, options.figure, overwrite=options.overwrite)
        if getattr(options, "summary", None) is not None:
            attention.save_summary(options.summary, overwrite=options.overwrite)
        return {"head": head}

    return explained(options, item, look, save, attention_lines)


MISSING = "–"
RANK, IMPORTANCE = "attribution_rank", "importance"


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
    first = attention["queries"][0]
    ablated = any("without_db" in head for heads in first["measures"].values() for head in heads)
    ranked = any(RANK in head for heads in first["measures"].values() for head in heads)
    twin = first.get("random_twin")
    weighed = any(IMPORTANCE in head for heads in first["measures"].values() for head in heads)
    titles = f"{'layer':22} {'head':10} {'entropy':>8} {'cells':>8} {'distance':>9}"
    yield f"{titles}{' attribution' * ranked}{'  without' * ablated}{' importance' * weighed}"
    for name, heads in first["measures"].items():
        for number in heads:
            yield f"{name:22} {number['head']:10} {_numbers(number)}"
        for number in () if twin is None else twin[name]:
            yield f"{'  random weights':22} {number['head']:10} {_numbers(number)}"
    if ranked:
        yield "attribution: Spearman's rank correlation of weights and attribution, over the candidates."
    if weighed:
        yield "importance: the result at the query minus that without the head, to first order."
    if ablated:
        yield "without: PSNR of the result without the head to the result, in dB; low: it matters."
    yield "entropy 1: equal weights; cells: how many that would be; distance: mean, in pixels."


def _of_redundancy(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield for each layer how alike its heads are."""
    if not found:
        return
    yield f"{'layer':22} {'compared cells':>14} {'likeness of heads':>18}"
    for name, one in found.items():
        yield f"{name:22} {one['cells']:14} {_number(one['mean']['cka'], '18.3f')}"
    yield "likeness: mean linear CKA of what two heads put out; 1: the same but for a rotation."


def _numbers(head: Mapping[str, Any]) -> str:
    columns = [("entropy", "8.3f"), ("effective_cells", "8.1f"), ("distance_px", "9.1f")]
    columns += [(RANK, "11.3f")] if RANK in head else []
    columns += [("without_db", "8.1f")] if "without_db" in head else []
    columns += [(IMPORTANCE, "10.2e")] if IMPORTANCE in head else []
    return " ".join(_number(head.get(name), form) for name, form in columns)


def _number(value: float | None, form: str) -> str:
    """Return a number in a format such as ``8.3f``, or a dash as wide."""
    return format(MISSING, f">{form.split('.')[0]}") if value is None else format(value, form)


def _of_sample(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield the means of every head, those of random weights below each head's."""
    count = len(attention["queries"])
    twin = attention.get("random_twin")
    titles = f"{'layer':22} {'head':10} {'entropy':>8} {'cells':>8} {'distance':>8}"
    yield f"{titles} {'equal':>8} {'window':>6} {'tile':>6}"
    own = [head for head in attention["summary"] if twin is None or head["weights"] != twin]
    others = {
        (head["layer"], head["head"]): head
        for head in attention["summary"]
        if head["weights"] == twin
    }
    for head in own:
        yield f"{head['layer']:22} {head['head']:10} {_means(head)}"
        other = others.get((head["layer"], head["head"]))
        if other is not None:
            yield f"{'  random weights':22} {'':10} {_means(other)}"
    yield (
        f"Means over {count} queries. entropy 1: equal weights; "
        "cells: how many that would be; distance: mean, in pixels; equal: the same of equal weights; "
        "window, tile: shares of the weights in the query's own."
    )


def _means(head: Mapping[str, Any]) -> str:
    columns = (
        _number(head["entropy"]["mean"], "8.3f"),
        _number(head["effective_cells"]["mean"], "8.1f"),
        _number(head["distance_px"]["mean"], "8.1f"),
        _number(head["equal_distance_px"]["mean"], "8.1f"),
        _number(head["window_share"]["mean"], "6.3f"),
        _number(head["tile_share"]["mean"], "6.3f"),
    )
    return " ".join(columns)
