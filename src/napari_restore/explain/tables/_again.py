"""A table made again: what must be kept of it for that, and whether it came out the same."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_restore.engine import Region
from napari_restore.errors import InputError
from napari_restore.explain.tables._places import Place
from napari_restore.explain.tables._rows import COLUMNS, Group, Row, name_of
from napari_restore.images import Image
from napari_restore.models import Labelled
from napari_restore.records import strict_json

CLOSE = 1e-3
"""Relative difference up to which two numbers are one: threads may round in another order …"""
NEAR = 1e-4
"""… or absolute one of a share or gap, of which small ones tell little."""
OF_THE_RUN = {"number", "model", "image", "fingerprint", "weights_sha256", "seconds"}
"""Columns that say nothing of the answer, or are checked before it is sought."""
SHARES = {name for name in COLUMNS if name.startswith(("ring_", "beyond_"))} | {
    *("relative_gap", "in_box", "identity_share", "insertion_area", "deletion_area"),
}


@dataclass(frozen=True)
class Source(os.PathLike[str]):
    """An image of a table that was made before."""

    name: str
    """As it was called then."""
    spec: Mapping[str, Any]
    fingerprint: str | None
    """None where it could not be read."""

    def __fspath__(self) -> str:
        return self.name

    def open(self) -> Image:
        """Raises what `open_image` does."""
        return Image.from_spec(dict(self.spec))


def task_of(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    rows: Sequence[Row],
    spec_of: Callable[[Any], Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    """Images with their places, and models, as JSON; None if some of them lie in no file.

    `spec_of` tells how an image is opened again.
    """
    specs = [spec_of(source) for source, _ in groups]
    if None in specs or not all(model.spec for _, model in models):
        return None
    fingerprints = {row["number"]: row["fingerprint"] for row in rows}
    images, number = [], 0
    for (source, here), spec in zip(groups, specs, strict=True):
        told = {"name": name_of(source), "spec": spec, "fingerprint": fingerprints.get(number + 1)}
        images.append({**told, "places": [_of_place(place) for place in here]})
        number += len(here)
    return {
        "images": images,
        "models": [
            {"label": label, "spec": model.spec, "weights_sha256": model.card.weights_sha256}
            for label, model in models
        ],
    }


def groups_in(task: Mapping[str, Any]) -> list[tuple[Source, list[Place]]]:
    """The images of a `task_of`, and what is asked about in each."""
    return [
        (
            Source(image["name"], image["spec"], image["fingerprint"]),
            [_as_place(place) for place in image["places"]],
        )
        for image in task["images"]
    ]


def compared(found: Sequence[Row], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether rows are those of `earlier`, as JSON.

    ``rows`` are those that both have, ``same`` how many of them are alike, and ``apart`` what
    differs in the others: a column, what was told, and what is found.
    """
    before = {(row["number"], row["model"]): row for row in earlier}
    # As they are read from a file.
    now = {(row["number"], row["model"]): row for row in json.loads(strict_json(found))}
    both = [key for key in now if key in before]
    apart = [
        (key, {"column": column, "told": before[key].get(column), "found": now[key][column]})
        for key in both
        for column in COLUMNS
        if column not in OF_THE_RUN
        and not _alike(column, now[key][column], before[key].get(column))
    ]
    return {
        "rows": len(both),
        "same": len(both) - len({key for key, _ in apart}),
        "apart": [
            {**{name: now[key][name] for name in ("image", "name", "model")}, **told}
            for key, told in apart
        ],
    }


def _alike(column: str, one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        near = NEAR if column in SHARES else 0.0
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=near)
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_place(place: Place) -> dict[str, Any]:
    return {
        "name": place.name,
        "box": None if place.box is None else list(place.box),
        "polygon": None if place.polygon is None else [list(vertex) for vertex in place.polygon],
    }


def _as_place(told: Mapping[str, Any]) -> Place:
    box, polygon = told["box"], told["polygon"]
    if (box is None) == (polygon is None):
        raise InputError(
            f"Place {told['name']!r} of the record is neither a box nor a polygon.",
            "Ask anew: napari-restore attribute.",
        )
    return Place(
        told["name"],
        None if box is None else Region(*box),
        None if polygon is None else tuple((float(y), float(x)) for y, x in polygon),
    )
