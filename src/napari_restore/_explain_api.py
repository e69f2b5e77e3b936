"""The part of `api` that is about attribution."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._image_api import Pathlike, open_image
from napari_restore.engine import Region

if TYPE_CHECKING:
    from napari_restore.explain import Attribution, AttributionTable, Place

KEPT = ("extent", "black", "white", "exclude", "context", "other_bands")
"""Options of a plan that change a map; what belongs to one machine is left out of a record."""

FILES = ("exclude", "context")
"""Of these, those that name files."""
OF_MACHINE = ("memory", "device_memory", "device", "workers", "scratch", "watch")
"""Options that change no map."""


def attribute(
    image: Any,
    model: Any,
    box: Sequence[int] | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    level: int = 0,
    **options: Any,
) -> Attribution:
    """Which pixels made what `model` does in `box`: `.map`, `.record`, `.save(path)`.

    `box` is (y0, x0, y1, x1) in level-0 pixels; in its place `polygon` has vertices (y, x), edges
    at whole numbers. Above `level` 0 an overview of the image is asked in the place of its true
    pixels: another question, and map and record are in its pixels. Options are method, objective, baseline, steps,
    rule, gap, facts, emit, stop and watch, see `napari_restore.explain.attribute`, and those of `plan` that say how
    the image is read and on what the model runs.
    """
    from napari_restore.explain import attribute
    from napari_restore.models import load

    opened = open_image(image).level_view(level)
    # An overview may be asked in its own right, as a record tells of one.
    scale = opened.scale if level else 1
    loaded = load(model) if isinstance(model, str) else model
    region = None if box is None else _smaller(Region(*(int(v) for v in box)), scale)
    if polygon is not None:
        polygon = [[value / scale for value in vertex] for vertex in polygon]
    found = attribute(opened, loaded, region, polygon=polygon, **options)
    found.record["attribution"]["scale"] = opened.scale
    if opened.spec is not None and loaded.spec:
        found.record["task"] = {
            "image": opened.spec,
            "model": loaded.spec,
            "question": found.record["attribution"].pop("request"),
            "options": lasting(
                {name: options[name] for name in KEPT if options.get(name) is not None}
            ),
        }
    else:
        found.record["task"] = None
        found.record["attribution"].pop("request")
    return found


def lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose files are found from any folder."""
    return {
        name: os.path.abspath(value) if name in FILES and value is not None else value
        for name, value in options.items()
    }


def _smaller(box: Region, scale: int) -> Region:
    """The pixels of an overview that hold any of `box`."""
    y0, x0, y1, x1 = box
    return Region(y0 // scale, x0 // scale, -(-y1 // scale), -(-x1 // scale))


def attribute_table(
    images: Any,
    models: Sequence[Any],
    boxes: Pathlike | Sequence[Any] | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    bands: str | None = None,
    sensor: str | None = None,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    account: Mapping[str, Any] | None = None,
    emit: Callable[[Any], None] = lambda event: None,
    stop: threading.Event | None = None,
    **options: Any,
) -> AttributionTable:
    """Ask every model about every box: `.rows`, `.summary`, `.failures`, `.save(path)`.

    Parameters
    ----------
    images
        One, or a list of several; None where `boxes` names them.
    models
        Ids or files, with parameters as in "dcp:omega=0.9", or loaded models. The others are
        compared to the first.
    boxes, polygon
        A CSV file with the columns x, y, width, height and, if you like, name and image; or a list of
        boxes (y0, x0, y1, x1); or else one polygon.
    bands, sensor
        As `open_image` takes them.
    weights, parameters, trust
        As `evaluate` takes them.
    account
        More fields of the table's `to_dict`.
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
    from napari_restore.explain import make_table
    from napari_restore.models import load_named

    places = boxes_of(boxes, polygon)
    sources = [] if images is None else images if isinstance(images, list) else [images]
    loaded = load_named(models, weights=weights, parameters=parameters, trust=trust)
    if not loaded:
        raise InputError("There is no model to ask.", "Name one of: napari-restore models.")
    told = {name: value for name, value in options.items() if value is not None}
    return make_table(
        sources,
        loaded,
        places,
        open_image=lambda source: open_image(source, bands=bands, sensor=sensor),
        ask=lambda image, model, box, **more: attribute(image, model, box, **more, **options),
        question={name: value for name, value in told.items() if name not in OF_MACHINE},
        account=account or {},
        emit=emit,
        stop=stop or threading.Event(),
    )


def boxes_of(
    boxes: Pathlike | Sequence[Any] | None, polygon: Sequence[Sequence[float]] | None = None
) -> list[Place]:
    """What `attribute_table` would ask about, as it takes it again; raises `InputError`."""
    from napari_restore.explain import places_of

    return places_of(boxes, polygon)


def check_table(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a file that a table could not be saved to."""
    from napari_restore.explain import check_table

    check_table(Path(path), overwrite=overwrite)


def draw_attribution(found: Attribution, path: Pathlike, **options: Any) -> Path:
    """Draw a figure (.png, .pdf, .svg) of an attribution with all that was asked.

    Options are width_mm, exponent and overwrite; see `napari_restore.explain.draw`.
    """
    from napari_restore.explain import draw

    return draw(found, Path(path), **options)


def check_figure(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a figure that `draw_attribution` could not draw."""
    from napari_restore.explain import check_figure

    check_figure(Path(path), overwrite=overwrite)


def overview_path(path: Pathlike) -> Path:
    """Where the shares of an overview go that belong to the map at `path`."""
    from napari_restore.explain import overview_path

    return overview_path(Path(path))


def is_attribution(record: Mapping[str, Any]) -> bool:
    """Whether a record tells of an attribution rather than of a restoration."""
    return "attribution" in record


def repeat_attribution(record: Pathlike, **options: Any) -> Attribution:
    """Ask again what a record tells of; options are those that belong to one machine.

    Raises `InputError` when the record does not say enough and `SourceChanged` when the image
    is not the one it tells of.
    """
    from napari_restore.errors import InputError, SourceChanged
    from napari_restore.images import Image
    from napari_restore.models import load
    from napari_restore.records import read_record

    told: dict[str, Any] = dict(read_record(Path(record)))
    task = told.get("task")
    if not is_attribution(told) or task is None:
        raise InputError(
            f"{record} does not say enough to ask again.",
            "Only attributions of images and models that lie in files can be repeated.",
        )
    image = Image.from_spec(task["image"])
    if image.fingerprint != told["input"]["fingerprint"]:
        raise SourceChanged(
            f"{image.name} is not the image that {record} tells of.",
            "Ask anew: napari-restore attribute.",
        )
    question = dict(task["question"])
    clear = told["attribution"].get("baseline_fingerprint")
    if clear is not None and open_image(question["baseline"]).fingerprint != clear:
        raise SourceChanged(
            f"{question['baseline']} is not the clear image that {record} tells of.",
            "Ask anew: napari-restore attribute.",
        )
    return attribute(
        image, load(**task["model"]), question.pop("box"), **question, **task["options"], **options
    )
