"""Notes on a run in addition to those of the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def notes_before(planned: Any) -> list[str]:
    """Return notes on the image, before the run."""
    image = planned.part or planned.image
    notes = []
    if "alpha" in image.roles:
        notes.append("The alpha band is kept as it is.")
    if image.height == image.width == 1:
        notes.append("The image is a single pixel; a model's neighbourhood is that pixel alone.")
    return notes


def notes_after(planned: Any, record: Mapping[str, Any]) -> list[str]:
    """Return notes after the run: nothing valid, NaN and infinity, the measured exposure."""
    measured = record["measured"]
    invalid = (measured.get("quality_shares") or {}).get("nodata") or 0
    notes = []
    if invalid == 1:
        notes.append("No pixel is valid: everything was copied unchanged.")
    image = planned.part or planned.image
    # With another nodata value, a mask or alpha the share includes pixels other than NaN.
    undeclared = image.nodata is None or math.isnan(image.nodata)
    if (
        0 < invalid
        and image.dtype.kind == "f"
        and undeclared
        and image.profile.masks not in ("mask", "bands")
    ):
        notes.append("Pixels with NaN or infinity are kept as they are.")
    if count := measured.get("not_finite_pixels"):
        notes.append(
            f"The model returned no finite value for {count} pixels; they are kept as they were."
        )
    if planned.adjustment.exposure == "auto":
        notes.append(f"Exposure measured: {record['adjustment']['exposure']:+.2f} EV.")
    return notes
