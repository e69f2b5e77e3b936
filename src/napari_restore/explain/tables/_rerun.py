"""Reruns of a table: the task that its record stores, and the comparison of the rows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_restore.engine import Region
from napari_restore.errors import InputError
from napari_restore.explain.tables._places import TargetPlace
from napari_restore.explain.tables._rows import COLUMNS, Group, Row, name_of
from napari_restore.images import Image
from napari_restore.models import Labelled, identity_of
from napari_restore.records import strict_json

CLOSE = 1e-3
"""Relative tolerance for equal numbers: threads may round in another order."""
NEAR = 1e-4
"""Absolute tolerance of shares and gaps."""
NOT_COMPARED = {"number", "model", "image", "fingerprint", "weights_sha256", "seconds"}
"""Columns that are no result, or are checked before the rerun."""
SHARES = {name for name in COLUMNS if name.startswith(("ring_", "beyond_"))} | {
    *("relative_gap", "in_box", "identity_share", "insertion_area", "deletion_area"),
}


@dataclass(frozen=True)
class RecordedImage(os.PathLike[str]):
    """An image of a recorded table."""

    name: str
    """Its name in the record."""
    spec: Mapping[str, Any]
    fingerprint: str | None
    """None where the image could not be read."""

    def __fspath__(self) -> str:
        return self.name

    def open(self) -> Image:
        """Open the image; raises as `open_image`."""
        return Image.from_spec(dict(self.spec))


def table_task_of(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    rows: Sequence[Row],
    spec_of: Callable[[Any], Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    """Return images with their places, and models, as JSON; None if some exist only in memory.

    `spec_of` returns how an image is opened again.
    """
    specs = [spec_of(source) for source, _ in groups]
    if None in specs or not all(model.spec for _, model in models):
        return None
    fingerprints = {row["number"]: row["fingerprint"] for row in rows}
    images, number = [], 0
    for (source, places), spec in zip(groups, specs, strict=True):
        record = {
            "name": name_of(source),
            "spec": spec,
            "fingerprint": fingerprints.get(number + 1),
        }
        images.append({**record, "places": [_place_to_dict(place) for place in places]})
        number += len(places)
    return {
        "images": images,
        "models": [
            {"label": label, "spec": model.spec, **identity_of(model)} for label, model in models
        ],
    }


def groups_from_task(task: Mapping[str, Any]) -> list[tuple[RecordedImage, list[TargetPlace]]]:
    """Return the images of a `table_task_of` with their attribution targets."""
    return [
        (
            RecordedImage(image["name"], image["spec"], image["fingerprint"]),
            [_place_from_dict(place) for place in image["places"]],
        )
        for image in task["images"]
    ]


def compare_rows(rows: Sequence[Row], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare rows with those of `earlier`; return the result as JSON.

    ``rows`` is the number of rows that both have, ``same`` how many of them are equal, and ``apart``
    lists the differences: the column, the recorded value ``told`` and the present value ``found``.
    """
    recorded = {(row["number"], row["model"]): row for row in earlier}
    # Through JSON, as the earlier ones were.
    current = {(row["number"], row["model"]): row for row in json.loads(strict_json(rows))}
    both = [key for key in current if key in recorded]
    apart = [
        (key, {"column": column, "told": recorded[key].get(column), "found": current[key][column]})
        for key in both
        for column in COLUMNS
        if column not in NOT_COMPARED
        and not _is_equal(column, current[key][column], recorded[key].get(column))
    ]
    return {
        "rows": len(both),
        "same": len(both) - len({key for key, _ in apart}),
        "apart": [
            {**{name: current[key][name] for name in ("image", "name", "model")}, **difference}
            for key, difference in apart
        ],
    }


def _is_equal(column: str, first: Any, second: Any) -> bool:
    if _is_number(first) and _is_number(second):
        near = NEAR if column in SHARES else 0.0
        return math.isclose(first, second, rel_tol=CLOSE, abs_tol=near)
    return bool(first == second)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _place_to_dict(place: TargetPlace) -> dict[str, Any]:
    return {
        "name": place.name,
        "box": None if place.box is None else list(place.box),
        "polygon": None if place.polygon is None else [list(vertex) for vertex in place.polygon],
    }


def _place_from_dict(place: Mapping[str, Any]) -> TargetPlace:
    box, polygon = place["box"], place["polygon"]
    if (box is None) == (polygon is None):
        raise InputError(
            f"Place {place['name']!r} of the record is neither a box nor a polygon.",
            "Run it again: napari-restore attribute.",
        )
    return TargetPlace(
        place["name"],
        None if box is None else Region(*box),
        None if polygon is None else tuple((float(y), float(x)) for y, x in polygon),
    )
