"""Levels and maps of the store of a run."""

from __future__ import annotations

from typing import Any

from napari_restore.engine.planning._plan import Plan
from napari_restore.images import Image, level_sizes


def store_layout(plan: Plan) -> dict[str, Any]:
    """Return the levels and maps of a plan's store, as parameters of `ResultStore.open`."""
    image = plan.image
    sizes = {"airlight": len(plan.bands)}
    # The change depends on strength and mask: it is computed when it is saved.
    stored = [name for name in plan.maps if name != "change"]
    return {
        "levels": result_levels(image) if plan.pyramid else (),
        "maps": {name: sizes.get(name, 1) for name in stored},
    }


def result_levels(image: Image) -> tuple[tuple[int, int], ...]:
    """Return the sizes of the result's further pyramid levels, down to a long side ≤ 512.

    No more than seven: a tile begins on a whole pixel of those, whatever its size.
    """
    return tuple(level_sizes(image.height, image.width)[1:8])
