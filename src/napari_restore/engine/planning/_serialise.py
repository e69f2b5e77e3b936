"""Plans as JSON, so that another process runs exactly the same plan without planning again."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.machine._device import Device
from napari_restore.engine.planning._frames import for_image
from napari_restore.engine.planning._layout import Layout
from napari_restore.engine.planning._map_layout import SweptLayout
from napari_restore.engine.planning._plan import Plan, Prediction
from napari_restore.engine.planning._probe import state_sizes
from napari_restore.engine.planning._tile_invariance import TileInvariance
from napari_restore.images import Image
from napari_restore.models import RestorationModel
from napari_restore.questions import Adjustment, Computing, Reading, Target

_SEPARATE = ("image", "model", "part")
"""Fields of a plan that are described separately."""
_GROUPS = {
    "reading": Reading,
    "adjustment": Adjustment,
    "computing": Computing,
    "prediction": Prediction,
}


def serialise_plan(plan: Plan) -> dict[str, Any]:
    """Return all fields of `plan` but image, model and part, JSON-able."""
    data = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _SEPARATE}
    groups = {name: asdict(data[name]) for name in (*_GROUPS, "layout")}
    return data | {
        **groups,
        "device": [plan.device.name, plan.device.reason],
        "store": str(plan.store),
        "settled": None if plan.settled is None else str(plan.settled),
        "lends": None if plan.lends is None else str(plan.lends),
        "target": asdict(plan.target) | {"region": [list(box) for box in plan.targets]},
        "staged": None if plan.staged is None else plan.staged.to_dict(),
        "sizes": [plan.model.card.halo, plan.model.card.multiple_of, plan.model.card.padded_to],
    }


def deserialise_plan(
    data: dict[str, Any], image: Image, model: RestorationModel, part: Image | None = None
) -> Plan:
    """Return the plan that `serialise_plan` described, for the same image and model.

    The card of `model` states what was measured for the plan.
    """
    values = dict(data)
    state_sizes(model, *values.pop("sizes"))
    target, layout = values["target"], values["layout"]
    values |= {
        "device": Device(*values["device"]),
        "store": Path(values["store"]),
        "target": Target(**target | {"region": tuple(Region(*box) for box in target["region"])}),
        "layout": Layout(**layout | {"invariance": TileInvariance(layout["invariance"])}),
        **{name: kind(**values[name]) for name, kind in _GROUPS.items()},
    }
    for name in ("settled", "lends"):
        if values[name] is not None:
            values[name] = Path(values[name])
    if values["staged"] is not None:
        values["staged"] = SweptLayout.from_dict(values["staged"])
    for name in ("bands", "maps", "notes", "origin"):
        values[name] = tuple(values[name])
    return Plan(image=image, model=for_image(model, image), part=part, **values)
