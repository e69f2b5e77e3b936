"""Tables of many attributions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from napari_restore import explain, images
from napari_restore.api._attribution import attribute, digests, with_absolute_paths
from napari_restore.api._cluster import TableRun, computed_on
from napari_restore.api._images import Pathlike, open_image
from napari_restore.api._models import code_file, load_models
from napari_restore.api._options import (
    ImageOptions,
    ModelOptions,
    TableOptions,
    checked_region,
    documents_options,
)
from napari_restore.api._progress_bar import progress_bar
from napari_restore.engine import Region
from napari_restore.questions import Attribute, Machine, Reading, without

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.explain import (
        Attribution,
        AttributionTable,
        MapPiece,
        PlannedRow,
        RowResult,
        TableTarget,
    )
    from napari_restore.images import Image
    from napari_restore.models import Labelled, RestorationModel


K = TypeVar("K")


@documents_options(TableOptions, Attribute, Reading, Machine)
def attribute_table(
    images: Any,
    models: Sequence[str | nn.Module],
    boxes: Pathlike | Sequence[Region | TableTarget] | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    extra: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    emit: Callable[[Event], None] | None = None,
    cluster: Any = None,
    **options: Unpack[TableOptions],
) -> AttributionTable:
    """Attribute every box for every model.

    Parameters
    ----------
    images
        One, or a list of several; None where `boxes` names them.
    models
        Ids or files, with parameters as in "dcp:omega=0.9", or loaded models. The others are
        compared to the first.
    boxes, polygon
        A CSV file with the columns x, y, width, height and, optionally, name and image; or a list of
        `Region`s, ``Region(y0, x0, y1, x1)`` or ``Region.from_xywh(x, y, width, height)``, bare
        tuples are refused; or else one polygon.
    extra
        Further fields of the table's `to_dict`.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook, where no
        `emit` is given.
    emit
        Callback for events.
    cluster
        Any that `connect` takes or returns: its workers compute the rows, one each.
    bands, sensor, allow_outside, plane
        As for `open_image`.
    weights, parameters, trust
        As for `load_model`.
    {options}
    stop
        An event that cancels the run when set. The table then has the rows so far and the `status`
        "cancelled"; likewise after Ctrl-C.
    watch
        As for `attribute`.
    level
        As for `attribute`.
    pieces
        A list to which what `draw_maps` draws of each map is added.

    Returns
    -------
    AttributionTable
        `.rows`, `.summary`, `.failures`, ``.save(path)``.

    Raises
    ------
    napari_restore.errors.InputError
        Nothing can be computed, with one sentence naming the cause. The error of a single box is in its
        row, unless all fail.
    napari_restore.errors.Cancelled
        Cancelled before the first map.
    """
    from napari_restore.errors import InputError

    targets = boxes_of(boxes, polygon)
    sources = [] if images is None else images if isinstance(images, list) else [images]
    groups = explain.group_by_image(sources, targets)
    question: dict[str, Any] = {**options}
    loaded = load_models(models, **_taken(question, ModelOptions))
    if not loaded:
        raise InputError("No model is given.", "Name one of: napari-restore models.")
    image_options = _taken(question, ImageOptions)
    stop, pieces = question.pop("stop", None), question.pop("pieces", None)
    with progress_bar(progress, emit) as show:
        return _table(
            groups,
            loaded,
            question,
            open_image=lambda source: _open_named(source, image_options),
            spec_of=lambda source: _spec_of(source, image_options),
            extra=extra or {},
            pieces=pieces,
            run=TableRun(show, stop or threading.Event(), cluster),
        )


def _check_named(objective: object, baseline: object, segments: object) -> None:
    """Raise `BadParameter` for what only a single map takes: rows are computed in other processes, too."""
    from napari_restore.errors import BadParameter, option

    if segments is not None:
        raise BadParameter(
            "Segments have a table of their own for each map.",
            f"Leave {option('segments')} out, or attribute boxes one by one.",
        )

    is_own = callable(objective) or (objective is not None and code_file(str(objective)))
    is_array = not isinstance(baseline, str | os.PathLike | None) or str(baseline).endswith(".npy")
    if is_own or is_array:
        raise BadParameter(
            "A table takes objectives by their name and baselines by name or image file.",
            "Attribute boxes one by one for a function or an array.",
        )


def _taken(options: dict[str, Any], keywords: type[K]) -> K:
    """Take those of `options` that a typed dictionary declares."""
    names = options.keys() & keywords.__annotations__
    return cast("K", {name: options.pop(name) for name in names})


def _table(
    groups: Sequence[Any],
    models: Sequence[Labelled],
    options: Mapping[str, Any],
    *,
    open_image: Callable[[Any], Image],
    spec_of: Callable[[Any], Mapping[str, Any] | None],
    extra: Mapping[str, Any],
    pieces: list[MapPiece] | None,
    run: TableRun,
) -> AttributionTable:
    """Return the table of `groups`, with its task; `spec_of` returns how an image is opened again."""
    asked = {name: value for name, value in options.items() if value is not None}
    asked.pop("watch", None)
    question = with_absolute_paths(without(asked, Machine))
    baseline = question.get("baseline")
    _check_named(question.get("objective"), baseline, question.get("segments"))
    fingerprint = None
    if baseline is not None and baseline not in explain.NAMES and Path(baseline).exists():
        baseline = question["baseline"] = os.path.abspath(baseline)
        fingerprint = _open_named(baseline, {}).fingerprint
    read = {"files": digests(question), "baseline_fingerprint": fingerprint}
    row_options = {**options, **question}

    def keep(planned: PlannedRow, found: Attribution) -> None:
        if pieces is not None:
            name = planned.target.name
            if planned.images[1] > 1:
                name = f"{Path(str(planned.row['image'])).stem}, {name}"
            pieces.append(explain.MapPiece.of(found, name, str(planned.row["model"])))

    def attribute_row(image: Image, model: RestorationModel, box: Any, **more: Any) -> Attribution:
        return attribute(image, model, box, **more, **row_options)

    def computed(rows: Iterator[PlannedRow]) -> Iterator[RowResult]:
        if run.cluster is None:
            return explain.computed_here(rows, attribute_row, run.emit, run.stop, keep)
        return computed_on(run, rows, models, row_options, read)

    task = explain.table_task_of(groups, models, [], spec_of)
    kept = None
    # A row of an earlier run has no map.
    if task is not None and pieces is None:
        kept = {**task, **read, "question": question, **_computing(options)}
    table = explain.make_table(
        groups,
        models,
        open_image=open_image,
        compute=computed,
        question=question,
        extra=extra,
        journal=explain.RowJournal(kept, options.get("scratch")),
        emit=run.emit,
    )
    task = explain.table_task_of(groups, models, table.rows, spec_of)
    return replace(
        table, measures={**table.measures, "task": None if task is None else {**task, **read}}
    )


def _computing(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return on what the numbers of a row depend beside its question."""
    import torch

    versions = {"napari-restore": version("napari-restore"), "torch": torch.__version__}
    return {"versions": versions, "device": options.get("device")}


def _open_named(source: Any, options: ImageOptions) -> Image:
    """Open an image that a table of boxes or a record may have named: an address needs consent."""
    if isinstance(source, images.Image):
        return open_image(source, bands=options.get("bands"))
    return images.open_image(source, **options)


def _spec_of(source: Any, options: ImageOptions) -> dict[str, Any] | None:
    """Return the arguments of `open_image` for an image, readable or not; None for an array."""
    if isinstance(source, images.Image):
        return _open_named(source, options).spec
    paths = list(source) if isinstance(source, tuple) else [source]
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return None
    names = [os.path.abspath(path) for path in paths]
    return {
        "source": names if len(names) > 1 else names[0],
        **{
            name: value
            for name, value in options.items()
            if value is not None and value is not False
        },
    }


def boxes_of(
    boxes: Pathlike | Sequence[Any] | None, polygon: Sequence[Sequence[float]] | None = None
) -> list[TableTarget]:
    """Return the attribution targets of `attribute_table`, valid as its `boxes`; raises `InputError`."""
    if boxes is not None and not isinstance(boxes, (str, os.PathLike)):
        boxes = [
            box if isinstance(box, explain.TableTarget) else checked_region(box, f"boxes[{number}]")
            for number, box in enumerate(boxes)
        ]
    return explain.targets_of(boxes, polygon)
