"""Computes the rows of a table: one attribution for each image, model and target."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore._options import CHECK
from napari_restore.engine import Event, ImageStarted, Note, Phase
from napari_restore.errors import Cancelled, InputError, RestoreError
from napari_restore.explain._attribution import Attribution
from napari_restore.explain._attribution_run import Emit
from napari_restore.explain._measures import RINGS
from napari_restore.explain._summary import FAR, far_share
from napari_restore.explain.tables._places import Place
from napari_restore.images import Image
from napari_restore.models import Labelled

COLUMNS = (
    *("number", "image", "fingerprint", "name", "x", "y", "width", "height", "polygon"),
    *("model", "weights_sha256", "method", "objective", "baseline", "diffusion_index"),
    *("window_diffusion_index", "area_95", "relative_gap", "reached", "nodes", "in_box"),
    *(f"ring_{low}_{high}" for low, high in zip(RINGS, (*RINGS[1:], ""), strict=True)),
    *(f"beyond_{FAR}", "identity_share", "difference", "recomputed_difference"),
    *("context", "context_share"),
    *("insertion_area", "deletion_area", "seconds", "error"),
)
"""Columns of a row; unknown values are None."""
CURVES = {"insertion", "deletion"}
"""Curves of a check whose areas are columns."""
Row = dict[str, Any]


class RowResult(NamedTuple):
    """One row and its position in the table."""

    order: tuple[int, int]
    """Number of the place, counted over all images, and of the model."""
    row: Row
    measures: dict[str, Any]
    """Version, versions and device of the run."""
    error: RestoreError | None


Group = tuple[Any, list[Place]]
"""An image, in any form that can be opened, and its attribution targets."""


def attribute_all(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    open_image: Callable[[Any], Image],
    attribute: Callable[..., Attribution],
    emit: Emit,
    stop: threading.Event,
) -> Iterator[RowResult]:
    """Yield the row of every model and place, image by image and model by model.

    Parameters
    ----------
    groups
        As `group_by_image` returns them.
    models
        Models with unique labels.
    open_image
        Opens an image when its rows are next.
    attribute
        Called with image, model and box, and the keywords polygon, emit and stop.
    emit, stop
        Callback for events; an event that cancels the run when set, which raises `Cancelled`.
    """
    before = 0
    for number, (source, places) in enumerate(groups, 1):
        if len(groups) > 1:
            emit(ImageStarted(Path(name_of(source)).name, number, len(groups)))
        image, open_error = _opened(source, open_image)
        # Model by model, as a model's whole-image statistics are reused for its next box.
        for model_number, (label, model) in enumerate(models):
            for place_number, place in enumerate(places, 1):
                if stop.is_set():
                    raise Cancelled("Stopped before the first box.", "Nothing was written.")
                row = _input_columns(source, image, place) | {
                    "number": before + place_number,
                    "model": label,
                    "weights_sha256": model.card.weights_sha256,
                }
                measures: dict[str, Any] = {}
                error = open_error
                if image is not None:
                    emit_here = _prefixed(emit, f"{label}, box {place_number} of {len(places)}")
                    try:
                        # The map is freed with its row: the next one may need the memory.
                        measures = _measure(
                            row,
                            attribute(
                                image,
                                model,
                                place.box,
                                polygon=place.polygon,
                                emit=emit_here,
                                stop=stop,
                            ),
                        )
                    except Cancelled:
                        raise
                    except RestoreError as failure:
                        error = failure
                if error is not None:
                    row["error"] = str(error)
                yield RowResult((before + place_number, model_number), row, measures, error)
        before += len(places)


def group_by_image(images: Sequence[Any], places: Sequence[Place]) -> list[Group]:
    """Return every image with its places in order: all of them, or those that name it.

    Raises `InputError` where images are given twice or not at all.
    """
    named = dict.fromkeys(place.image for place in places if place.image is not None)
    if len(images) and named:
        raise InputError(
            "The table of boxes names images, but others are given, too.",
            "Leave one of the two out.",
        )
    if named:
        return [(name, [place for place in places if place.image == name]) for name in named]
    if not len(images):
        raise InputError(
            "No image is given.", "Name one, or add a column image to the table of boxes."
        )
    return [(image, list(places)) for image in images]


def _opened(
    source: Any, open_image: Callable[[Any], Image]
) -> tuple[Image | None, RestoreError | None]:
    """Open an image; return it, or the error for its rows."""
    try:
        return open_image(source), None
    except RestoreError as error:
        return None, error


def name_of(source: Any) -> str:
    """Return the path of an image, or a name where it has none."""
    if isinstance(source, Image):
        return source.name if source.path is None else str(source.path)
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "an array"


def _input_columns(source: Any, image: Image | None, place: Place) -> Row:
    """Return a row with the columns of the input; all others are None."""
    box = place.bounds
    return {
        **dict.fromkeys(COLUMNS),
        "image": name_of(source if image is None else image),
        "fingerprint": None if image is None else image.fingerprint,
        "name": place.name,
        "x": box.x0,
        "y": box.y0,
        "width": box.width,
        "height": box.height,
        "polygon": None if place.polygon is None else [list(vertex) for vertex in place.polygon],
    }


def _measure(row: Row, attribution: Attribution) -> dict[str, Any]:
    """Fill in the measures of a row; return version, versions and device of the run."""
    record = attribution.record
    recorded = record["attribution"]
    complete = recorded["completeness"]
    checked = recorded.get("checks", {}).get(CHECK, {})
    row |= {
        **{name: recorded[name] for name in ("method", "objective", "baseline", "identity_share")},
        **{
            name: complete[name]
            for name in ("relative_gap", "reached", "difference", "recomputed_difference")
        },
        **{f"{name}_area": checked[name]["area"] for name in checked.keys() & CURVES},
        **_shares(recorded["rings"]),
        "context": recorded["context"]["used"],
        "context_share": recorded["context"]["share"],
        "diffusion_index": recorded["diffusion_index"],
        "window_diffusion_index": recorded["window"]["diffusion_index"],
        # The area of a map of zeros is undefined, and must not enter the mean as 0.
        "area_95": None if recorded["diffusion_index"] is None else recorded["area_95"],
        "nodes": len(recorded["nodes"]),
        "seconds": record["measured"]["seconds"],
    }
    return {name: record[name] for name in ("version", "versions", "device")}


def _shares(rings: Mapping[str, float]) -> Row:
    """Return the columns of the rings; none for a map of zeros."""
    if not any(rings.values()):
        return {}
    around = {name: share for name, share in rings.items() if name != "box"}
    return {
        "in_box": rings["box"],
        **{f"ring_{name.replace('-', '_')}": share for name, share in around.items()},
        f"beyond_{FAR}": far_share(rings),
    }


def _prefixed(emit: Emit, place: str) -> Emit:
    """Return a callback that prefixes phases and notes with their box."""

    def emit_prefixed(event: Event) -> None:
        if isinstance(event, Phase):
            event = Phase(f"{place}: {event.name}")
        elif isinstance(event, Note):
            event = Note(f"{place}: {event.text.marked}")
        emit(event)

    return emit_prefixed
