"""`attribute`: a map of the input pixels' shares in the output of a box, or a table of many."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import format_seconds
from napari_restore.commands._arguments import (
    command_of,
    consent_of,
    context_of,
    load_models,
    may_run_code,
    of_models,
    open_attributed,
)
from napari_restore.commands._checks import (
    files_among,
    identities,
    read_files,
    refuse_existing,
    refuse_input,
)
from napari_restore.commands._explained import (
    below,
    check_figure,
    check_outputs,
    explained,
    item_of,
    repeated,
    show_loading,
    style_of,
)
from napari_restore.commands._flags import with_flags
from napari_restore.commands._interrupt import interrupt_of
from napari_restore.commands._options import (
    add_cluster,
    add_explained_image,
    add_model,
    add_options,
    add_overwrite,
    add_reading,
    given,
)
from napari_restore.commands._outputs import FIRST, Item
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.commands._streams import write_error
from napari_restore.errors import BadParameter, Cancelled, InputError, escape_controls
from napari_restore.questions import (
    STOP,
    THROUGH,
    Attribute,
    Drawing,
    Machine,
    Opening,
    Reading,
    Region,
    options_of,
    parsing,
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of `attribute`."""
    parser.set_defaults(run=attribute)
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="the image (with --stack its bands), or several images for a table",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        action="append",
        dest="outputs",
        metavar="OUT",
        help="the map to write (.tif .zarr): float32, georeferenced, the sum and then each band, "
        "of a bracket each frame; as arrays (.npy, .npz with the record) or as a figure (.png .svg .pdf); "
        "with --segments their table (.csv). "
        "For several boxes, models or images: a table (.csv .json). May be repeated",
    )
    add_explained_image(parser)
    add_model(parser, several=True)
    _add_question(parser)
    add_cluster(add_reading(parser))
    output = add_overwrite(parser)
    output.add_argument(
        "--figure",
        metavar="FILE",
        help="also write a figure with all settings (.png .pdf .svg); of several boxes or models one with "
        "all maps on one scale",
    )
    add_options(output, Drawing)
    output.add_argument("--record", metavar="FILE", help="also write the record")


def _add_question(parser: argparse.ArgumentParser) -> None:
    """Add the options for target, method and objective."""
    group = parser.add_argument_group("attribution")
    place = group.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--box",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="the attribution target: a box of the result in pixels, origin top left",
    )
    place.add_argument(
        "--center",
        nargs=2,
        type=parsing.number,
        metavar=("X", "Y"),
        help="the centre of the box, in pixels from the top left corner; its size is --size",
    )
    place.add_argument(
        "--polygon",
        nargs="+",
        type=parsing.number,
        metavar="X Y",
        help="a polygon of the result instead of a box: three vertices or more",
    )
    place.add_argument(
        "--boxes",
        metavar="CSV",
        help="a table of boxes: columns x, y, width, height and optionally name and image",
    )
    group.add_argument(
        "--size",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="of the box around --center: its side, or width and height (default 128)",
    )
    add_options(group, Attribute)
    group.add_argument(
        "--argument",
        action="append",
        dest="arguments",
        default=[],
        type=parsing.assignment,
        metavar="NAME=VALUE",
        help="a setting of a method without a path; may be repeated",
    )
    group.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="use level N of the image's pyramid instead of full resolution (0); boxes stay in "
        "full-resolution pixels",
    )


def attribute_options(options: Namespace) -> dict[str, Any]:
    """Return the options as keywords of `nr.attribute`, except for the target."""
    return given(options, options_of(Attribute, Reading, Machine)) | {
        "arguments": {name: api.argument_value(value) for name, value in options.arguments},
        "context": context_of(options),
        "level": options.level,
    }


SIDE = 128
"""Pixels along a side of a box around a centre."""


def box_around(options: Namespace) -> list[int]:
    """Return --center and --size as X Y WIDTH HEIGHT; raises `BadParameter`."""
    sides = options.size or [SIDE]
    if options.center is None:
        raise BadParameter("--size is of the box around --center.", "Add --center X Y.")
    if len(sides) > 2 or min(sides) < 1:
        raise BadParameter(
            "--size is a side in pixels, or width and height.", "Write for instance --size 64."
        )
    x, y = options.center
    width, height = sides[0], sides[-1]
    box = Region.centred(y, x, height, width)
    return [box.x0, box.y0, width, height]


def polygon_of(options: Namespace) -> list[tuple[float, float]] | None:
    """Return the vertices (y, x) of --polygon; raises `BadParameter` for an odd count."""
    if options.polygon is None:
        return None
    if len(options.polygon) % 2:
        raise BadParameter(
            "--polygon has an odd number of coordinates.", "Write X and Y of each vertex in turn."
        )
    return list(zip(options.polygon[1::2], options.polygon[::2], strict=True))


def attribute(options: Namespace) -> CommandResult:
    """Attribute one target of one image for one model, or write a table of many."""
    if options.center is not None or options.size is not None:
        options.box = box_around(options)
    if not options.bracket and (options.reference is not None or options.ev is not None):
        raise InputError(
            "--reference and --ev are for the frames of a bracket.",
            "Add --bracket if the images are that.",
        )
    if options.boxes is not None or len(options.models) > 1 or _images_of(options) > 1:
        return _attribute_table(options)
    if options.cluster is not None:
        raise BadParameter(
            "One map is computed on one machine: its points are summed in their order.",
            "Leave --cluster out, or name several boxes, models or images for a table.",
        )
    item = item_of(options.paths, _one_output(options), options.record)
    asked = [options.baseline, options.segments, api.code_file(options.objective or "")]
    read = read_files(options) | identities(files_among(asked))
    _check_written(
        options, item, read, options.context_gradient != STOP, segments=options.segments is not None
    )

    def attribute_image(**callbacks: Any) -> Any:
        return api.attribute(
            open_attributed(options, options.paths),
            load_models(options)[0].model,
            None if options.box is None else api.Region.from_xywh(*options.box),
            polygon=polygon_of(options),
            trust=may_run_code([options.objective or ""], yes=options.yes),
            **attribute_options(options),
            **callbacks,
        )

    return _result(options, item, attribute_image)


def _one_output(options: Namespace) -> str:
    """Return the path of the map; raises `InputError`, also without an image."""
    if not options.paths:
        raise InputError("No image is given.", "Name it: napari-restore attribute PATH.")
    if len(options.outputs) > 1:
        raise InputError("A map has one file.", "Give one -o; the record is another: --record.")
    name: str = options.outputs[0]
    return name


def repeat_attribute(options: Namespace, record_file: Any) -> CommandResult:
    """Repeat the attribution of a `RecordFile`."""
    question = (record_file.record.get("task") or {"question": {}})["question"]
    item, read = repeated(options, record_file, question.get("baseline"))
    through = question.get("context_gradient") == THROUGH
    _check_written(options, item, read, through, segments=question.get("segments") is not None)
    consent = consent_of(options, record_file)
    return _result(options, item, partial(api.repeat_attribution, record_file, **consent))


def _check_written(
    options: Namespace, item: Item, read: frozenset[object], through: bool, *, segments: bool
) -> None:
    """Raise `BadOutput` for outputs that would replace a file; called before the computation."""
    check_outputs(options, item, read, partial(api.check_map, segments=segments))
    overview = api.overview_path(item.output)
    if through and overview is not None:
        refuse_input(overview, read)
        refuse_existing(overview, overwrite=options.overwrite)


def _result(options: Namespace, item: Item, attribute_image: Callable[..., Any]) -> CommandResult:
    """Attribute, write the files of `item`, and return the result."""
    also = (getattr(options, "figure", None), item.record)

    def save(attribution: Any) -> dict[str, Any]:
        attribution.save(item.output, overwrite=options.overwrite)
        return {}

    return explained(
        options,
        item,
        attribute_image,
        save,
        (api.draw_attribution, api.figure_caption),
        lambda output, record: _summary_lines(output, record, also),
    )


def _summary_lines(
    output: Path, record: dict[str, Any], also: Sequence[str | Path | None]
) -> list[str]:
    """Return the summary of an attribution for the terminal."""
    attribution = record["attribution"]
    summary = api.attribution_summary(attribution)
    overview = api.overview_path(output) if attribution["overview_share"] else None
    written = [str(path) for path in (output, overview, *also) if path is not None]
    includes = "; --context-gradient through includes it" if summary.omits_context else ""
    beside = f"{attribution['overview_share']:.1%} of all magnitudes are in "
    lines = [
        f"wrote {', '.join(written)} in {format_seconds(record['measured']['seconds'], tenths=True)}",
        f"{attribution['objective']} in the box, {_method_text(attribution)}: "
        f"completeness {summary.completeness}"
        + (": read the map with care" if summary.is_complete is False else ""),
        _frames_text(attribution.get("frames", ())),
        summary.parts and f"of {summary.parts}",
        summary.context + includes,
        "" if overview is None else beside + overview.name,
        summary.spread,
        f"of all magnitudes {attribution['rings']['box']:.1%} in the box, "
        f"{summary.far_share:.1%} beyond {summary.far} pixels from it",
        *(f"check: {check}" for check in summary.checks),
        f"{attribution['map']['title']}: {attribution['map']['says']}",
    ]
    return [escape_controls(line) for line in lines if line]


def _frames_text(frames: Sequence[Mapping[str, Any]]) -> str:
    """Return the sum of the shares of each frame of a bracket, in units of the objective."""
    named = (
        f"{Path(frame['path'] or 'array').name} ({frame['ev']:+.1f} EV) {frame['sum']:+.4f}"
        for frame in frames
    )
    return f"shares of the frames: {', '.join(named)}" if frames else ""


def _method_text(attribution: Mapping[str, Any]) -> str:
    start = "" if attribution["baseline"] is None else f" from {attribution['baseline']}"
    if attribution["path"] is None:
        return f"by {attribution['method']}{start}"
    return f"along the {attribution['path']} path{start}"


# -- a table of many boxes, models or images -----------------------------------------


def _images_of(options: Namespace) -> int:
    """Return how many images the paths are."""
    return 1 if options.stack or options.bracket else len(options.paths)


def _attribute_table(options: Namespace) -> CommandResult:
    """Attribute every box of every image for every model; the exit code is that of the first failure."""
    if options.record is not None:
        raise BadParameter(
            "--record is for one map, but a table has many.",
            "Use one --model and one --box for it; the .json of a table is its record.",
        )
    if options.figure is not None and (options.cluster is not None or options.panels):
        raise BadParameter(
            "A figure of several maps is drawn on one machine, and its panels are the maps.",
            "Leave --cluster and --panels out.",
        )
    pieces: list[Any] | None = None if options.figure is None else []
    show_loading(options)
    boxes = [api.Region.from_xywh(*options.box)] if options.box is not None else None
    targets = api.boxes_of(options.boxes if boxes is None else boxes, polygon_of(options))
    _check_tables(options, targets)
    with interrupt_of(options) as interrupt:
        with interrupt.watching(api.Stop()) as stop:
            images = list(options.paths)
            if (options.stack or options.bracket) and images:
                images = [open_attributed(options, images)]
            table = api.attribute_table(
                images,
                options.models,
                targets,
                **given(options, options_of(Opening).keys() - {"stack"}),
                **of_models(options, options.models),
                extra={"command": command_of(options)},
                emit=reporter(options.progress),
                stop=stop,
                cluster=options.cluster,
                pieces=pieces,
                **attribute_options(options),
            )
        return _save(options, table, options.outputs, pieces)


def _check_tables(options: Namespace, targets: list[Any]) -> None:
    """Raise `BadOutput` for outputs that could not be written; called before the computation.

    Raises `BadParameter` for statistics shared by several images, which only `restore` computes.
    """
    named = [options.baseline, options.boxes, *(target.image for target in targets)]
    images = _images_of(options)
    if options.context == FIRST and (
        images > 1 or len({target.image for target in targets} - {None}) > 1
    ):
        raise BadParameter(
            f"--context {options.context} is for images that are restored into a folder.",
            "Name the restore_context.npz in that folder, or leave it out.",
        )
    rows = len(options.models) * sum(images if target.image is None else 1 for target in targets)
    read = read_files(options) | identities(files_among(named))
    check_figure(options, read)
    for output in options.outputs:
        refuse_input(Path(output), read)
        api.check_table(Path(output), overwrite=options.overwrite, rows=rows)


def _save(
    options: Namespace, table: Any, outputs: Sequence[str], pieces: Sequence[Any] | None
) -> CommandResult:
    """Save a table, then its figure, report the failed rows, and return the result."""
    for output in outputs:
        table.save(output, overwrite=options.overwrite)
    caption, written = [], [*outputs]
    if pieces and table.status != "cancelled":
        written.append(options.figure)
        style = {"overwrite": options.overwrite, **style_of(options)}
        caption = below(options, api.draw_maps(pieces, options.figure, **style))
    data = table.to_dict()
    failed = [row for row in table.rows if row["error"] is not None]
    # One message per row, also with --progress off.
    for row in failed:
        where = f"{Path(row['image']).name}, box {row['name']}, {row['model']}"
        write_error(f"{where}: {with_flags(row['error'])}")
    code = table.failures[0].exit_code if failed else 0
    if table.status == "cancelled":
        saved = f"Stopped after {len(table.rows)} of {table.planned}; these are saved."
        write_error(f"{saved} The same command with --overwrite goes on from there.")
        code = Cancelled.exit_code
    lines = [f"{table}", "", *(f"wrote {escape_controls(str(output))}" for output in written)]
    lines += caption
    return CommandResult(data, "\n".join(lines), code)
