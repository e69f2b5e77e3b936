"""Attention of models, and its files."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore import engine, images
from napari_restore.api._attribution import digests, open_task, task_of, with_absolute_paths
from napari_restore.api._images import Bands, Pathlike, open_image
from napari_restore.api._models import as_model
from napari_restore.api._options import (
    AttendOptions,
    SessionOptions,
    checked_region,
    documents_options,
)
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._record_file import RecordFile, read_record_file
from napari_restore.engine import Region
from napari_restore.errors import BadParameter, option
from napari_restore.questions import Attend, Machine, MachineKeywords, Reading, part_of, without
from napari_restore.records import check_file

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.explain.attention.attention import Attention
    from napari_restore.explain.attention.queries import Query
    from napari_restore.explain.attention.session import AttentionSession
    from napari_restore.explain.attribution.figure_file import StyleOptions


@documents_options(AttendOptions, Attend, Reading, Machine)
def attend(
    image: Any,
    model: str | os.PathLike[str] | nn.Module,
    queries: Sequence[Query | Region | Sequence[int]] = (),
    *,
    layers: str | Sequence[str] = "all",
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    progress: bool | None = None,
    emit: Callable[[Event], None] | None = None,
    **options: Unpack[AttendOptions],
) -> Attention:
    """Return what each attention head of `model` attends to for some queries.

    The numbers of heads that are left out (`ablate`) are among the measures, the differences in
    ``.queries[0].effects``. With `sample` the record's ``summary`` has the mean of each head's numbers
    and ``.save_summary(path)`` writes it. Of `random_twin` there are
    ``.twin`` and further rows of tables; of `redundancy` ``.redundancy[layer]``, a matrix (heads, heads)
    of linear CKA; of `attribution` the rank correlation ``attribution_rank`` among the measures.

    Parameters
    ----------
    image, model
        As for `plan`.
    queries
        Pixels (y, x) of level 0, and each a `Region` whose cells' maps are averaged; or with names, as
        `queries_of` reads them. With `sample` none, or the one `Region` to draw in.
    layers
        Names of layers, as ``napari-restore models ID`` lists them, or ``"all"``.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or a mapping.
    sensor
        As for `open_image`: the id of a preset, or a sensor file.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook, where no
        `emit` is given.
    emit
        Callback for events.
    {options}
    stop
        An event that cancels the run when set.

    Returns
    -------
    Attention
        ``.map(layer, head)``, `.queries`, `.record`, ``.save(path)``.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    from napari_restore.explain.attention.attend import attend

    opened, loaded = open_image(image, bands=bands, sensor=sensor), as_model(model)
    asked = [_query(each) for each in queries]
    settings = Attend(**with_absolute_paths(part_of(options, Attend)))
    with progress_bar(progress, emit) as show:
        attention = attend(
            opened,
            loaded,
            asked,
            settings,
            layers=layers,
            emit=show,
            **without(options, Attend),
        )
    question = attention.record["attention"].pop("question")
    task = task_of(opened, loaded, question, options)
    if task is not None and settings.attribution is not None:
        task["files"] |= digests({"attribution": settings.attribution})
    attention.record["task"] = task
    return attention


def _query(given: Query | Region | Sequence[int]) -> Query:
    from napari_restore.explain.attention.queries import Query

    if isinstance(given, Query):
        return given
    if isinstance(given, Region):
        return Query(checked_region(given, "query"))
    try:
        y, x = (operator.index(each) for each in given)
    except (TypeError, ValueError):
        raise BadParameter(f"{given!r} is no pixel.", "Give (y, x), or a Region.") from None
    return Query.point(y, x)


@documents_options(SessionOptions, Reading, Machine)
def attention_session(
    image: Any,
    model: str | os.PathLike[str] | nn.Module,
    *,
    emit: Callable[[Event], None] | None = None,
    **options: Unpack[SessionOptions],
) -> AttentionSession:
    """Return a session that is prepared once, then asked query by query; see `AttentionSession`.

    `emit` is called with events; `options` are those of `attend`.
    """
    from napari_restore.explain.attention.session import AttentionSession

    return AttentionSession(
        open_image(image), as_model(model), emit=emit or (lambda event: None), **options
    )


def attention_query(y: int, x: int) -> Query:
    """Return the query of a pixel, for a session."""
    return _query((y, x))


def queries_of(path: Pathlike) -> tuple[Query, ...]:
    """Return the queries of a CSV table with columns x and y, and optionally name."""
    from napari_restore.explain.attention.queries import queries_in

    return queries_in(Path(path))


def draw_attention(
    attention: Attention,
    path: Pathlike,
    *,
    overwrite: bool = False,
    **style: Unpack[StyleOptions],
) -> Path:
    """Draw the maps of the first query (.png, .pdf, .svg) with all settings.

    `style` are the options `width_mm`, `limits` and `caption` of `draw_attribution`.
    """
    from napari_restore.explain.attention.figure import draw_attention

    with engine.peak_in(attention.record):
        return draw_attention(attention, Path(path), overwrite=overwrite, **style)


def attention_caption(attention: Attention) -> str:
    """Return the settings that stand below the figure of attention maps."""
    from napari_restore.explain.attention.figure import caption

    return caption(attention, [attention.maps(name) for name in attention.layers], 0)


def check_attention(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a file that `Attention.save` could not write."""
    if Path(path).suffix.lower() in (".csv", ".npz"):
        check_file(Path(path), "file", option("path"), overwrite=overwrite)
    else:
        images.check_output(path, overwrite=overwrite, dtype="float32")


def check_head(
    model: str | os.PathLike[str] | nn.Module, layers: str | Sequence[str], head: str
) -> None:
    """Raise `BadParameter` for a head that is neither ``"all"``, ``"mean"`` or ``"max"`` nor in a layer."""
    from napari_restore.explain.attention.head_maps import AGGREGATES, head_number

    if head in ("all", *AGGREGATES):
        return
    names = [layers] if isinstance(layers, str) else layers
    for site in as_model(model).attention_sites():
        if site.name in names:
            head_number(site, head)


def repeat_attention(
    record: Pathlike | Mapping[str, Any] | RecordFile,
    *,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Unpack[MachineKeywords],
) -> Attention:
    """Repeat the attention of a record; `options` are those of the machine. See `repeat_attribution`."""
    from napari_restore.explain.attention.queries import Query

    record_file = read_record_file(record)
    image, model, task = open_task(
        record_file, "attention", trust=trust, allow_outside=allow_outside
    )
    question = dict(task["question"])
    asked = [Query(Region(*each["box"]), each["name"]) for each in question.pop("queries")]
    return attend(image, model, asked, **question, **task["options"], **options)
