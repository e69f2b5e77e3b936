"""What a model makes of the whole-image facts, kept from one run to the next."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_restore.engine._context import context_key
from napari_restore.engine._plan import Plan
from napari_restore.engine._probe import weights_state
from napari_restore.engine._weight import Weight
from napari_restore.images import Radiometry
from napari_restore.models import Context, Facts, RestorationModel

KEPT = 4
"""Images per model whose prepared facts are kept: they are small, contexts are not."""


@dataclass(frozen=True)
class Prepared:
    """All of the context that a run needs."""

    facts: Facts
    fill: npt.NDArray[np.float32]
    """(C,) values in model range for pixels that do not count."""
    radiometry: Radiometry


_KNOWN: WeakKeyDictionary[RestorationModel, OrderedDict[str, Prepared]] = WeakKeyDictionary()


def prepare(
    plan: Plan, exclude: Weight | None, context: Callable[[], Context], keep: bool = False
) -> Prepared:
    """What `plan` needs of its image's `context`; its model moves to the plan's device.

    With `keep` it is kept, and `context` not asked for what an earlier run of the
    same model on the same image has found.
    """
    # Before it is told by its weights: moved ones are others.
    plan.model.to(plan.device.torch)
    keep = keep and plan.context_file is None
    known = _KNOWN.setdefault(plan.model, OrderedDict()) if keep else OrderedDict()
    key = _key(plan, exclude) if keep else ""
    if key in known:
        known.move_to_end(key)
        return known[key]
    found = context() if plan.needs_context else None
    bands = plan.bands
    radiometry = plan.radiometry(found)
    facts: Facts = {}
    fill = np.full(len(bands), 0.5, np.float32)
    if found is not None:
        facts = dict(plan.model.prepare(found, radiometry.to_model, bands))
        medians = np.array([found.percentile(50, (b,)) for b in range(found.bands)])
        fill = radiometry.to_model(medians)[list(bands)].astype(np.float32)
    elif plan.model.card.needs_context:
        raise AssertionError("the plan forgot the context")
    prepared = Prepared(facts, fill, radiometry)
    known[key] = prepared
    while len(known) > KEPT:
        known.popitem(last=False)
    return prepared


def _key(plan: Plan, exclude: Weight | None) -> str:
    image = plan.image
    region = plan.region if plan.extent == "region" else None
    return json.dumps(
        [
            context_key(image, exclude, region, extent=plan.extent),
            # How values are read may differ where pixels are the same.
            [image.sensor, image.roles, plan.bands, plan.black, plan.white],
            [dict(plan.model.card.values), *weights_state(plan.model)],
        ]
    )
