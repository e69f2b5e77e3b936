"""Attributions of one box, and their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore import engine, explain, images
from napari_restore.api._images import Bands, Pathlike, mask_file, open_image
from napari_restore.api._models import as_model, code_file, load_described
from napari_restore.api._options import AttributeOptions, checked_region, documents_options
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._record_file import RecordFile, read_record_file
from napari_restore.engine import Region
from napari_restore.questions import AUTO, Attribute, Machine, MachineKeywords, Reading, part_of

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.explain import Attribution, FigureOptions, StyleOptions
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel

FILES = ("exclude", "context", "attribution")
"""Options that name files."""


@documents_options(AttributeOptions, Attribute, Reading, Machine)
def attribute(  # noqa: PLR0913  # as `plan`, and the place
    image: Any,
    model: str | os.PathLike[str] | nn.Module,
    box: Region | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    level: int = 0,
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    progress: bool | None = None,
    emit: Callable[[Event], None] | None = None,
    trust: bool = False,
    **options: Unpack[AttributeOptions],
) -> Attribution:
    """Attribute the output of `model` in `box` to pixels of the input.

    Parameters
    ----------
    image, model
        As for `plan`.
    box
        A `Region` of level-0 pixels of the result: ``Region(y0, x0, y1, x1)`` or
        ``Region.from_xywh(x, y, width, height)``; bare tuples are refused. This or `polygon`.
    polygon
        Vertices (y, x) in level-0 pixels of the result, edges at whole numbers.
    level
        Above 0 that level of the image pyramid is used instead of the full resolution: map and record
        are in its pixels.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or a mapping.
    sensor
        As for `open_image`: the id of a preset, or a sensor file.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook, where no
        `emit` is given.
    emit
        Callback for events.
    trust
        Whether the code of an objective in a file may run.
    {options}
    stop
        An event that cancels the run when set.
    watch
        Callback for partial maps.

    Returns
    -------
    Attribution
        `.map`, float32 (H, W, bands) over the region of the record; `.record`, ``.save(path)``.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    opened = open_image(image, bands=bands, sensor=sensor).level_view(level)
    # A record may name a level itself: its boxes are in pixels of that level already.
    scale = opened.scale if level else 1
    loaded = as_model(model)
    region = None if box is None else checked_region(box, "box").scale(Fraction(1, scale))
    if polygon is not None:
        polygon = [(y / scale, x / scale) for y, x in explain.polygon_of(polygon).vertices]
    with progress_bar(progress, emit) as show:
        attribution = explain.attribute(
            opened, loaded, region, polygon=polygon, emit=show, trust=trust, **options
        )
    attribution.record["attribution"]["scale"] = opened.scale
    request = attribution.record["attribution"].pop("request")
    # An objective or a baseline in memory cannot be opened again.
    task = None if request is None else task_of(opened, loaded, request, options)
    if task is not None and (code := code_file(request["objective"])) is not None:
        task["files"][code] = attribution.record["attribution"]["objective_sha256"]
    if task is not None and (file := segments_file(request["segments"])) is not None:
        # Labels that were drawn in the window lie in the cache.
        request["segments"] = images.persistent_mask(file)
        task["files"] |= digests_of([file])
    attribution.record["task"] = task
    return attribution


def task_of(
    image: Image, model: RestorationModel, question: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the task that repeats a question; None where image or model exist only in memory."""
    if image.spec is None or not model.spec:
        return None
    # Options of the machine change no pixel and are not part of a record.
    recorded_options = with_absolute_paths(
        {name: value for name, value in part_of(options, Reading).items() if value is not None}
    )
    return {
        "image": image.spec,
        "model": model.spec,
        "question": question,
        "options": recorded_options,
        "files": digests(recorded_options),
    }


def open_task(
    record_file: RecordFile, kind: str, *, trust: bool, allow_outside: bool
) -> tuple[Image, RestorationModel, dict[str, Any]]:
    """Return image, model and task of a record of this `kind`; raises `InputError`, `SourceChanged`."""
    task = record_file.task(kind, allow_outside=allow_outside)
    recorded = record_file.record
    model = load_described(task["model"], trust=trust)
    image = images.Image.from_spec(task["image"])
    record_file.check_image(image, recorded["input"]["fingerprint"])
    record_file.check_frames(image)
    record_file.check_model(model, recorded["model"])
    record_file.check_files(task.get("files", {}))
    return image, model, task


def with_absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with absolute paths, valid in any working folder."""
    return {
        name: images.absolute_mask(os.fspath(value))
        if name in FILES and value is not None
        else value
        for name, value in options.items()
    }


def digests(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of every file in options with absolute paths, by path."""
    named = [mask_file(options[name]) for name in FILES if options.get(name) is not None]
    return digests_of([name for name in named if name is not None])


def digests_of(files: Sequence[str]) -> dict[str, str]:
    """Return the sha256 of files by path."""
    return {name: engine.digest(Path(name)) for name in files}


def segments_file(segments: object) -> str | None:
    """Return the path of the file that names segments; None for an array and for superpixels."""
    if not isinstance(segments, str | os.PathLike) or str(segments).startswith("slic:"):
        return None
    return os.fspath(segments)


def draw_attribution(
    attribution: Attribution, path: Pathlike, **options: Unpack[FigureOptions]
) -> Path:
    """Draw a figure (.png, .pdf, .svg) of an attribution with all its settings.

    `options` are those of `napari_restore.explain.draw`.
    """
    with engine.peak_in(attribution.record):
        return explain.draw(attribution, Path(path), **options)


def figure_caption(attribution: Attribution) -> str:
    """Return the settings that stand below the figure of an attribution."""
    from napari_restore.explain.attribution.figure import caption

    return caption(attribution.record)


def check_map(path: Pathlike, *, overwrite: bool = False, segments: bool = False) -> None:
    """Raise `BadOutput` for a file that `Attribution.save` could not write.

    `segments` is whether the map has a table of segments, for .csv.
    """
    explain.check_map(Path(path), overwrite=overwrite, segments=segments)


def check_figure(path: Pathlike, *, overwrite: bool = False, **style: Unpack[StyleOptions]) -> None:
    """Raise `BadOutput` for a file that `draw_attribution` could not write, `BadParameter` for a `style`."""
    explain.FigureStyle(**style)
    explain.check_figure(Path(path), overwrite=overwrite)


def overview_path(path: Pathlike) -> Path | None:
    """Return the path of the overview's shares that belong to the raster at `path`; None of other files."""
    return explain.overview_path(Path(path)) if explain.is_raster(Path(path)) else None


def repeat_attribution(
    record: Pathlike | Mapping[str, Any] | RecordFile,
    *,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Unpack[MachineKeywords],
) -> Attribution:
    """Repeat the attribution of a record; `options` are those of the machine.

    Code that the record names runs only with `trust`; a VRT reads pixels from files outside
    its folder only with `allow_outside`.

    Raises `InputError` when the record does not contain enough and `SourceChanged` when image,
    weights or another input file are not the recorded ones.
    """
    record_file = read_record_file(record)
    image, model, task = open_task(
        record_file, "attribution", trust=trust, allow_outside=allow_outside
    )
    question = dict(task["question"])
    if question.get("box") is not None:
        question["box"] = Region(*question["box"])
    made = record_file.record["attribution"]
    if question.get("steps") == AUTO and "map_error" not in made["completeness"]:
        # Of a time when the gap alone chose the points.
        question |= {"steps": len(made["nodes"]), "rule": made["rule"]}
    clear = made.get("baseline_fingerprint")
    if clear is not None and question.get("baseline") is not None:
        # A record has named it: not `open_image` of this package, which takes addresses.
        record_file.check_image(explain.open_baseline(question["baseline"]), clear, "clear image")
    return attribute(image, model, trust=trust, **question, **task["options"], **options)
