"""The rows of a table: one attribution for each image, model and target."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore.engine import Emit, Event, ImageStarted, Note, Phase
from napari_restore.errors import Cancelled, InputError, RestoreError
from napari_restore.explain.attribution.attribution import Attribution
from napari_restore.explain.attribution.measures import RINGS
from napari_restore.explain.attribution.summary import FAR, far_share
from napari_restore.explain.tables._targets import TableTarget
from napari_restore.images import Image
from napari_restore.models import Labelled, RestorationModel
from napari_restore.questions import CHECK

COLUMNS = (
    *("number", "image", "fingerprint", "name", "x", "y", "width", "height", "polygon"),
    *("model", "weights_sha256", "method", "objective", "baseline", "diffusion_index"),
    *("window_diffusion_index", "area_95", "relative_gap", "reached", "map_error", "nodes"),
    "in_box",
    *(f"ring_{low}_{high}" for low, high in zip(RINGS, (*RINGS[1:], ""), strict=True)),
    *(f"beyond_{FAR}", "identity_share", "difference", "recomputed_difference"),
    *("context", "context_share"),
    *("insertion_area", "deletion_area", "seconds", "error"),
)
"""Columns of a row; unknown values are None."""
COMPLETENESS = ("relative_gap", "reached", "difference", "recomputed_difference", "map_error")
"""Columns that are as in the record's `completeness`."""
CURVES = {"insertion", "deletion"}
"""Curves of a check whose areas are columns."""
Row = dict[str, Any]


class RowResult(NamedTuple):
    """One row and its position in the table."""

    order: tuple[int, int]
    """Number of the target, counted over all images, and of the model."""
    row: Row
    measures: dict[str, Any]
    """Version, versions and device of the run."""
    error: RestoreError | None


class RowValues(NamedTuple):
    """What one attribution adds to its row; no pixels."""

    columns: Row
    run: dict[str, Any]
    """Version, versions and device."""


Group = tuple[Any, list[TableTarget]]
"""An image, in any form that can be opened, and its attribution targets."""


@dataclass(frozen=True)
class PlannedRow:
    """A row that is to be computed."""

    order: tuple[int, int]
    """As of its `RowResult`."""
    row: Row
    """Columns of the input; all others are None."""
    source: Any
    """The image of the group."""
    image: Image | None
    """None where it could not be opened."""
    model: RestorationModel
    target: TableTarget
    position: str
    """Model and box in words, for messages."""
    error: RestoreError | None
    """What kept the image from being opened."""
    images: tuple[int, int]
    """Number of the image, and how many there are."""

    def note(self, text: str) -> Note:
        """Return a note on the row."""
        return Note(f"{self.position}: {text}")

    def measured(self, found: RowValues) -> RowResult:
        """Return the row with what was measured."""
        return RowResult(self.order, {**self.row, **found.columns}, found.run, None)

    def failed(self, error: RestoreError) -> RowResult:
        """Return the row with an error."""
        return RowResult(self.order, {**self.row, "error": str(error)}, {}, error)


Compute = Callable[[Iterator[PlannedRow]], Iterator[RowResult]]
"""Yields the results of rows, in any order; raises `Cancelled`."""


def planned_rows(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    open_image: Callable[[Any], Image],
) -> Iterator[PlannedRow]:
    """Yield the row of every model, with unique labels, and target, image by image and model by model."""
    before = 0
    for number, (source, targets) in enumerate(groups, 1):
        image, error = _opened(source, open_image)
        # Model by model, as a model's whole-image statistics are reused for its next box.
        for model_number, (label, model) in enumerate(models):
            for target_number, target in enumerate(targets, 1):
                row = _input_columns(source, image, target) | {
                    "number": before + target_number,
                    "model": label,
                    "weights_sha256": model.card.weights_sha256,
                }
                yield PlannedRow(
                    (before + target_number, model_number),
                    row,
                    source,
                    image,
                    model,
                    target,
                    f"{label}, box {target_number} of {len(targets)}",
                    error,
                    (number, len(groups)),
                )
        before += len(targets)


def computed_here(
    rows: Iterator[PlannedRow],
    attribute: Callable[..., Attribution],
    emit: Emit,
    stop: threading.Event,
    keep: Callable[[PlannedRow, Attribution], None] = lambda planned, found: None,
) -> Iterator[RowResult]:
    """Compute rows in this process, one after another; `keep` is called with each map before it is freed.

    `attribute` is called with image, model and box, and the keywords polygon, emit and stop.
    Callbacks are those of a run; an event that is set raises `Cancelled`.
    """
    shown = 0
    for planned in rows:
        number, images = planned.images
        if number != shown:
            if images > 1:
                emit(ImageStarted(Path(name_of(planned.source)).name, number, images))
            for note in () if planned.image is None else planned.image.notes:
                emit(Note(note))
            shown = number
        if stop.is_set():
            raise Cancelled("Stopped before the first box.", "Nothing was written.")
        if planned.image is None:
            assert planned.error is not None
            yield planned.failed(planned.error)
            continue
        try:
            # The map is freed with its row: the next one may need the memory.
            made = attribute(
                planned.image,
                planned.model,
                planned.target.box,
                polygon=planned.target.polygon,
                emit=_prefixed(emit, planned.position),
                stop=stop,
            )
            keep(planned, made)
            found = measured(made)
            del made
        except Cancelled:
            raise
        except RestoreError as failure:
            yield planned.failed(failure)
        else:
            yield planned.measured(found)


def group_by_image(images: Sequence[Any], targets: Sequence[TableTarget]) -> list[Group]:
    """Return every image with its targets in order: all of them, or those that name it; raises `InputError`."""
    named = dict.fromkeys(target.image for target in targets if target.image is not None)
    if len(images) and named:
        raise InputError(
            "The table of boxes names images, but others are given, too.",
            "Leave one of the two out.",
        )
    if named:
        return [(name, [target for target in targets if target.image == name]) for name in named]
    if not len(images):
        raise InputError(
            "No image is given.", "Name one, or add a column image to the table of boxes."
        )
    return [(image, list(targets)) for image in images]


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


def _input_columns(source: Any, image: Image | None, target: TableTarget) -> Row:
    """Return a row with the columns of the input; all others are None."""
    box = target.bounds
    return {
        **dict.fromkeys(COLUMNS),
        "image": name_of(source if image is None else image),
        "fingerprint": None if image is None else image.fingerprint,
        "name": target.name,
        "x": box.x0,
        "y": box.y0,
        "width": box.width,
        "height": box.height,
        "polygon": None if target.polygon is None else [list(vertex) for vertex in target.polygon],
    }


def measured(attribution: Attribution) -> RowValues:
    """Return the columns of a row that an attribution gives, and what ran it."""
    record = attribution.record
    recorded = record["attribution"]
    complete = recorded["completeness"]
    checked = recorded.get("checks", {}).get(CHECK, {})
    columns: Row = {
        **{name: recorded[name] for name in ("method", "objective", "baseline", "identity_share")},
        **{name: complete[name] for name in COMPLETENESS},
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
    return RowValues(columns, {name: record[name] for name in ("version", "versions", "device")})


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
