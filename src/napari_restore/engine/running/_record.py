"""Record of a run: what was done, with what settings, and what it took."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.results.quality import QUALITY
from napari_restore.images import Image, Radiometry
from napari_restore.models import identity_of


@dataclass
class Totals:
    """Work done so far by a run, for its record."""

    tiles: int = 0
    """Tiles written."""
    pixels: int = 0
    """Pixels of those tiles."""
    resumed: int = 0
    """Tiles that an earlier run had finished."""
    backoffs: int = 0
    """How often memory ran out and a smaller batch was tried."""
    waited: float = 0.0
    """Seconds during which another run had locked the store."""

    def measured(self, seconds: float, memory: PeakMemory, device_peak: int) -> dict[str, Any]:
        """Return the record's `measured` of a run that took `seconds`, without its pixels' kinds."""
        return {
            "seconds": seconds,
            "run_seconds": seconds,
            "megapixels_per_second": self.pixels / 1e6 / seconds if seconds else 0.0,
            "idle_ram_bytes": memory.start,
            "peak_ram_bytes": memory.peak,
            "peak_device_bytes": device_peak,
            "tiles_done": self.tiles,
            "tiles_resumed": self.resumed,
            "backoffs": self.backoffs,
        }


def shares_of(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the part of `measured` on kinds of pixels; shares are None where there is no pixel."""
    pixels, valid = counts.get("pixels"), counts.get("valid")
    return {
        "unchanged_share": counts.get("unchanged", 0) / valid if valid else None,
        "quality_shares": {
            name: counts.get(name, 0) / pixels if pixels else None for name in QUALITY
        },
        "not_finite_pixels": counts.get("not_finite", 0),
    }


def make_record(
    plan: Plan,
    status: str,
    radiometry: Radiometry | None,
    statistics: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the parts of a record that the engine knows; `output` and `command` are still empty."""
    image, card = plan.image.given, plan.model.card
    given = plan.given_targets
    context = dict(statistics)
    # Radiometry and statistics of the image are None and empty if it was not read.
    ranges: dict[str, Any] = {"black": None, "white": None}
    if radiometry is not None:
        black, white = radiometry.black, radiometry.white
        ranges = {"black": [float(b) for b in black], "white": float(white)}
        context["black_reason"] = radiometry.black_reason
        context["white_reason"] = radiometry.white_reason
    frames: dict[str, Any] = {}
    if image.companions is not None:
        frames = {"frames": _frames(image), "reference": image.companions.reference}
    return {
        "command": "",
        "version": version("napari-restore"),
        "status": status,
        "input": {
            "path": None if image.path is None else str(image.path),
            "fingerprint": image.fingerprint,
            "size": [image.height, image.width],
            "bands": image.bands,
            "dtype": str(image.dtype),
            "crs": None if image.georeference is None else image.georeference.crs_wkt,
            **ranges,
        },
        **frames,
        "output": None,
        "model": {
            "id": card.id,
            **identity_of(plan.model),
            "parameters": dict(card.values),
            "bands": [b + 1 for b in plan.bands],
            "other_bands": plan.reading.other_bands,
        },
        "targets": [{"region": list(target), "mask": plan.target.mask} for target in given],
        "adjustment": plan.adjustment.to_dict(),
        "extent": plan.reading.extent,
        "context": context or None,
        "plan": plan.to_dict(),
        "measured": dict(measured),
        "device": f"{plan.device.name} ({plan.device.reason})",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "zarr")},
        },
    }


def _frames(image: Image) -> list[dict[str, Any]]:
    """Return the frames of a bracket, dark to bright."""
    assert image.companions is not None
    others = image.companions
    residuals: list[float | None] = list(others.residuals or [None] * len(others.images))
    residuals.insert(others.reference, None)
    return [
        {
            "path": None if frame.path is None else str(frame.path),
            "fingerprint": frame.fingerprint,
            "ev": ev,
            "placement": None if frame.spec is None else frame.spec.get("placement"),
            "exposed": None if frame.spec is None else frame.spec.get("exposed"),
            "residual": residual,
            "used": True,
        }
        for frame, ev, residual in zip(image.frames, others.exposures, residuals, strict=True)
    ]
