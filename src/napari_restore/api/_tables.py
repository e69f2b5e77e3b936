"""Tables of many attributions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore.api._attribution import attribute, digests, lasting
from napari_restore.api._images import Bands, Pathlike, open_image
from napari_restore.api._models import load_described
from napari_restore.api._options import AttributeOptions, checked_region, shows
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._recorded import Recorded, read_recorded
from napari_restore.engine import Region

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.explain import AttributionTable, Place
    from napari_restore.models import Labelled

OF_MACHINE = ("memory", "device_memory", "device", "workers", "scratch", "watch")
"""Options that change no map."""


@shows(AttributeOptions)
def attribute_table(
    images: Any,
    models: Sequence[str | nn.Module],
    boxes: Pathlike | Sequence[Region | Place] | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    bands: Bands | None = None,
    sensor: str | None = None,
    allow_outside: bool = False,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    account: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    emit: Callable[[Event], None] | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[AttributeOptions],
) -> AttributionTable:
    """Ask every model about every box: `.rows`, `.summary`, `.failures`, `.save(path)`.

    Parameters
    ----------
    images
        One, or a list of several; None where `boxes` names them.
    models
        Ids or files, with parameters as in "dcp:omega=0.9", or loaded models. The others are
        compare_rows to the first.
    boxes, polygon
        A CSV file with the columns x, y, width, height and, if you like, name and image; or a list of
        `Region`s, ``Region(y0, x0, y1, x1)`` or ``Region.from_xywh(x, y, width, height)``, bare
        tuples are refused; or else one polygon.
    bands, sensor, allow_outside
        As `open_image` takes them.
    weights, parameters, trust
        As `evaluate` takes them.
    account
        More fields of the table's `to_dict`.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook, where no
        `emit` is given.
    emit, stop
        Takes the events; ends the work when it is set. What was asked until then is kept, the
        table's `status` is then "cancelled"; likewise after Ctrl-C.
    options
        The question, as `attribute` takes it.

    Raises
    ------
    napari_restore.errors.InputError
        Nothing can be asked, with one sentence naming the cause. A box that fails is only told of in
        its row, unless all fail.
    napari_restore.errors.Cancelled
        Stopped before the first map.
    """
    from napari_restore.errors import InputError
    from napari_restore.explain import group_by_image
    from napari_restore.models import load_named

    places = boxes_of(boxes, polygon)
    sources = [] if images is None else images if isinstance(images, list) else [images]
    groups = group_by_image(sources, places)
    loaded = load_named(models, weights=weights, parameters=parameters, trust=trust)
    if not loaded:
        raise InputError("There is no model to ask.", "Name one of: napari-restore models.")
    with progress_bar(False if emit is not None and progress is None else progress) as show:
        return _table(
            groups,
            loaded,
            options,
            open_image=lambda source: open_image(
                source, bands=bands, sensor=sensor, allow_outside=allow_outside
            ),
            spec_of=lambda source: _spec_of(source, bands, sensor, allow_outside),
            account=account or {},
            emit=emit or show,
            stop=stop or threading.Event(),
        )


def repeat_table(
    record: Pathlike | Recorded,
    *,
    account: Mapping[str, Any] | None = None,
    emit: Callable[[Any], None] = lambda event: None,
    stop: threading.Event | None = None,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Any,
) -> AttributionTable:
    """Ask again all that a table's .json tells of: its `to_dict` then says how alike the rows are.

    ``repeats`` holds the path of the `record`, how many ``rows`` both have, how many are the
    ``same``, and what is ``apart``. `account`, `emit` and `stop` are as in `attribute_table`, options
    those that belong to one machine. Code that the record names runs only with `trust`; a VRT takes
    pixels from files outside its folder only with `allow_outside`. Raises `InputError` when the record does not say enough
    and `SourceChanged` when images, weights or other files are not those it tells of.
    """
    from napari_restore.explain import compare_rows, groups_from_task
    from napari_restore.models import Labelled

    recorded = read_recorded(record)
    task, told = recorded.task("table", allow_outside=allow_outside), recorded.told
    groups = groups_from_task(task)
    for source, _ in groups:
        # One that could not be read then is told of in its rows, as it was.
        if source.fingerprint is not None:
            recorded.check_image(source.open(), source.fingerprint)
    recorded.check_files(task["files"])
    clear = told["question"].get("baseline")
    if clear is not None and task["baseline_fingerprint"] is not None:
        recorded.check_image(open_image(clear), task["baseline_fingerprint"], "clear image")
    models = []
    for each in task["models"]:
        models.append(Labelled(each["label"], load_described(each["spec"], trust=trust)))
        recorded.check_model(models[-1].model, each["weights_sha256"])
    table = _table(
        groups,
        models,
        {**told["question"], **options},
        open_image=lambda source: source.open(),
        spec_of=lambda source: source.spec,
        account=account or {},
        emit=emit,
        stop=stop or threading.Event(),
    )
    repeats = {"record": str(recorded.path), **compare_rows(table.rows, told["rows"])}
    return replace(table, measures={**table.measures, "repeats": repeats})


def _table(
    groups: Sequence[Any],
    models: Sequence[Labelled],
    options: Mapping[str, Any],
    *,
    spec_of: Callable[[Any], Mapping[str, Any] | None],
    **given: Any,
) -> AttributionTable:
    """The table of `groups`, with its task; `given` goes to `make_table`."""
    from napari_restore.explain import NAMES, make_table, table_task_of

    question = lasting(
        {
            name: value
            for name, value in options.items()
            if value is not None and name not in OF_MACHINE
        }
    )
    clear = question.get("baseline")
    fingerprint = None
    if clear is not None and clear not in NAMES and Path(clear).exists():
        clear = question["baseline"] = os.path.abspath(clear)
        fingerprint = open_image(clear).fingerprint
    table = make_table(
        groups,
        models,
        ask=lambda image, model, box, **more: attribute(
            image, model, box, **more, **{**options, **question}
        ),
        question=question,
        **given,
    )
    task = table_task_of(groups, models, table.rows, spec_of)
    if task is not None:
        task |= {"files": digests(question), "baseline_fingerprint": fingerprint}
    return replace(table, measures={**table.measures, "task": task})


def _spec_of(
    source: Any, bands: Bands | None, sensor: str | None, allow_outside: bool
) -> dict[str, Any] | None:
    """How an image is opened again, whether or not it can be; None for an array."""
    from napari_restore.images import Image

    if isinstance(source, Image):
        return open_image(source, bands=bands).spec
    paths = list(source) if isinstance(source, tuple) else [source]
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return None
    names = [os.path.abspath(path) for path in paths]
    given = {"bands": bands, "sensor": sensor, "allow_outside": allow_outside or None}
    return {
        "source": names if len(names) > 1 else names[0],
        **{name: value for name, value in given.items() if value is not None},
    }


def boxes_of(
    boxes: Pathlike | Sequence[Any] | None, polygon: Sequence[Sequence[float]] | None = None
) -> list[Place]:
    """What `attribute_table` would ask about, as it takes it again; raises `InputError`."""
    from napari_restore.explain import Place, places_of

    if boxes is not None and not isinstance(boxes, (str, os.PathLike)):
        boxes = [
            box if isinstance(box, Place) else checked_region(box, f"boxes[{number}]")
            for number, box in enumerate(boxes)
        ]
    return places_of(boxes, polygon)


def check_table(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a file that a table could not be saved to."""
    from napari_restore.explain import check_table

    check_table(Path(path), overwrite=overwrite)
