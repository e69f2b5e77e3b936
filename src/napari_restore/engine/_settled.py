"""A settled plan as JSON, so that another process runs just it and settles nothing again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_restore.engine._device import Device
from napari_restore.engine._plan import Plan
from napari_restore.engine._region import Region
from napari_restore.engine.staged._layout import StagedLayout
from napari_restore.images import Image
from napari_restore.models import RestorationModel

_APART = ("image", "model", "part")
"""What a plan holds that travels by a description of its own."""


def settled(plan: Plan) -> dict[str, Any]:
    """Return all fields of `plan` but image, model and part, JSON-able."""
    data = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _APART}
    return data | {
        "device": [plan.device.name, plan.device.reason],
        "store": str(plan.store),
        "targets": [list(target) for target in plan.targets],
        "staged": None if plan.staged is None else plan.staged.to_dict(),
    }


def plan_from_settled(
    data: dict[str, Any], image: Image, model: RestorationModel, part: Image | None = None
) -> Plan:
    """Return the plan that `settled` described, for the same image and model."""
    told = dict(data)
    told |= {
        "device": Device(*told["device"]),
        "store": Path(told["store"]),
        "targets": tuple(Region(*target) for target in told["targets"]),
    }
    if told["staged"] is not None:
        told["staged"] = StagedLayout.from_dict(told["staged"])
    for name in ("bands", "maps", "notes", "origin"):
        told[name] = tuple(told[name])
    return Plan(image=image, model=model, part=part, **told)
