"""What a table is of, as JSON: images with their places, and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari_restore.explain.tables._places import TargetPlace
from napari_restore.explain.tables.rows import Group, Row, name_of
from napari_restore.models import Labelled, identity_of


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


def _place_to_dict(place: TargetPlace) -> dict[str, Any]:
    return {
        "name": place.name,
        "box": None if place.box is None else list(place.box),
        "polygon": None if place.polygon is None else [list(vertex) for vertex in place.polygon],
    }
