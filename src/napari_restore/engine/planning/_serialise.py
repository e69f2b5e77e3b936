"""Plans as JSON, so that another process runs exactly the same plan without planning again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.memory._device import Device
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.staged._layout import StagedLayout
from napari_restore.images import Image
from napari_restore.models import RestorationModel

_SEPARATE = ("image", "model", "part")
"""Fields of a plan that are described separately."""


def serialise_plan(plan: Plan) -> dict[str, Any]:
    """Return all fields of `plan` but image, model and part, JSON-able."""
    data = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _SEPARATE}
    return data | {
        "device": [plan.device.name, plan.device.reason],
        "store": str(plan.store),
        "targets": [list(target) for target in plan.targets],
        "staged": None if plan.staged is None else plan.staged.to_dict(),
    }


def deserialise_plan(
    data: dict[str, Any], image: Image, model: RestorationModel, part: Image | None = None
) -> Plan:
    """Return the plan that `serialise_plan` described, for the same image and model."""
    values = dict(data)
    values |= {
        "device": Device(*values["device"]),
        "store": Path(values["store"]),
        "targets": tuple(Region(*target) for target in values["targets"]),
    }
    if values["staged"] is not None:
        values["staged"] = StagedLayout.from_dict(values["staged"])
    for name in ("bands", "maps", "notes", "origin"):
        values[name] = tuple(values[name])
    return Plan(image=image, model=model, part=part, **values)
