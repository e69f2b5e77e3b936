"""Many boxes asked of many models, one after another: a row of numbers for each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore.engine import Event, ImageStarted, Note, Phase
from napari_restore.errors import Cancelled, InputError, RestoreError
from napari_restore.explain._attribution import Attribution
from napari_restore.explain._attribution_run import Emit
from napari_restore.explain._curves import CHECK
from napari_restore.explain._measures import RINGS
from napari_restore.explain.tables._places import Place
from napari_restore.images import Image
from napari_restore.models import Labelled

FAR = 128
"""Pixels from the box beyond which the mass is told as one number."""
COLUMNS = (
    *("number", "image", "fingerprint", "name", "x", "y", "width", "height", "polygon"),
    *("model", "weights_sha256", "method", "objective", "baseline", "diffusion_index"),
    *("window_diffusion_index", "area_95", "relative_gap", "reached", "nodes", "in_box"),
    *(f"ring_{low}_{high}" for low, high in zip(RINGS, (*RINGS[1:], ""), strict=True)),
    *(f"beyond_{FAR}", "identity_share", "difference", "recomputed_difference"),
    *("context", "context_share"),
    *("insertion_area", "deletion_area", "seconds", "error"),
)
"""Of a row; what is not known is None."""
CURVES = {"insertion", "deletion"}
"""Of a check, whose areas are told."""
Row = dict[str, Any]


class Answered(NamedTuple):
    """One row, and where it belongs."""

    order: tuple[int, int]
    """Numbers of place, counted over all images, and model."""
    row: Row
    measures: dict[str, Any]
    """Version, versions and device of the run."""
    error: RestoreError | None


Group = tuple[Any, list[Place]]
"""An image, however it is named, and what is asked about in it."""


def ask_all(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    open_image: Callable[[Any], Image],
    ask: Callable[..., Attribution],
    emit: Emit,
    stop: threading.Event,
) -> Iterator[Answered]:
    """Ask every model about every place; image by image, and model by model.

    Parameters
    ----------
    groups
        As `by_image` gives them.
    models
        Under labels that tell them apart.
    open_image
        Opens an image when it is its turn.
    ask
        Takes image, model and box, and by name polygon, emit and stop.
    emit, stop
        Takes the events; ends the work when it is set, with `Cancelled`.
    """
    before = 0
    for number, (source, here) in enumerate(groups, 1):
        if len(groups) > 1:
            emit(ImageStarted(Path(name_of(source)).name, number, len(groups)))
        image, broken = _opened(source, open_image)
        # Not box by box: what a model makes of the whole image stays at hand for its next box.
        for m, (label, model) in enumerate(models):
            for p, place in enumerate(here, 1):
                if stop.is_set():
                    raise Cancelled("Stopped before the first box.", "Nothing was written.")
                row = _known(source, image, place) | {
                    "number": before + p,
                    "model": label,
                    "weights_sha256": model.card.weights_sha256,
                }
                measures: dict[str, Any] = {}
                error = broken
                if image is not None:
                    tell = _placed(emit, f"{label}, box {p} of {len(here)}")
                    try:
                        # No map outlives its row: the next one may need the memory.
                        measures = _measure(
                            row,
                            ask(
                                image,
                                model,
                                place.box,
                                polygon=place.polygon,
                                emit=tell,
                                stop=stop,
                            ),
                        )
                    except Cancelled:
                        raise
                    except RestoreError as failure:
                        error = failure
                if error is not None:
                    row["error"] = str(error)
                yield Answered((before + p, m), row, measures, error)
        before += len(here)


def by_image(images: Sequence[Any], places: Sequence[Place]) -> list[Group]:
    """Every image once, with its places in their order: all of them, or those that name it.

    Raises `InputError` where images are named twice or not.
    """
    named = dict.fromkeys(place.image for place in places if place.image is not None)
    if len(images) and named:
        raise InputError(
            "The table of boxes names images, and others are given.", "Leave one of both out."
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
    """An image, or what its rows tell in its place."""
    try:
        return open_image(source), None
    except RestoreError as error:
        return None, error


def name_of(source: Any) -> str:
    """The path of an image, as far as it has one."""
    if isinstance(source, Image):
        return source.name if source.path is None else str(source.path)
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "an array"


def _known(source: Any, image: Image | None, place: Place) -> Row:
    """What is known of a row before anything is asked."""
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


def _measure(row: Row, found: Attribution) -> dict[str, Any]:
    """Fill a row in; returns version, versions and device of the run."""
    record = found.record
    told = record["attribution"]
    complete = told["completeness"]
    checked = told.get("checks", {}).get(CHECK, {})
    row |= {
        **{name: told[name] for name in ("method", "objective", "baseline", "identity_share")},
        **{
            name: complete[name]
            for name in ("relative_gap", "reached", "difference", "recomputed_difference")
        },
        **{f"{name}_area": checked[name]["area"] for name in checked.keys() & CURVES},
        **_shares(told["rings"]),
        "context": told["context"]["used"],
        "context_share": told["context"]["share"],
        "diffusion_index": told["diffusion_index"],
        "window_diffusion_index": told["window"]["diffusion_index"],
        # A map of zeros has no area, not one of no pixels: it must not count for a mean.
        "area_95": None if told["diffusion_index"] is None else told["area_95"],
        "nodes": len(told["nodes"]),
        "seconds": record["measured"]["seconds"],
    }
    return {name: record[name] for name in ("version", "versions", "device")}


def _shares(rings: Mapping[str, float]) -> Row:
    """The columns of rings; none for a map of zeros."""
    if not any(rings.values()):
        return {}
    around = {name: share for name, share in rings.items() if name != "box"}
    return {
        "in_box": rings["box"],
        **{f"ring_{name.replace('-', '_')}": share for name, share in around.items()},
        f"beyond_{FAR}": sum(
            share for name, share in around.items() if int(name.partition("-")[0]) >= FAR
        ),
    }


def _placed(emit: Emit, place: str) -> Emit:
    """Tells of events with the box that they belong to."""

    def tell(event: Event) -> None:
        if isinstance(event, Phase):
            event = Phase(f"{place}: {event.name}")
        elif isinstance(event, Note):
            event = Note(f"{place}: {event.text}")
        emit(event)

    return tell
