"""What the record of an attribution says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from napari_restore.explain import _measures
from napari_restore.explain._attribution import window_of
from napari_restore.explain._attribution_run import AttributionRun
from napari_restore.explain._context_choice import ContextChoice, share_of
from napari_restore.explain._integral import Integral
from napari_restore.explain._methods import FIXED, RECOMPUTED, THROUGH, Method
from napari_restore.explain._paths import Path
from napari_restore.explain.explainers._explained import Explained


def account(
    run: AttributionRun,
    method: Method,
    path: Path | None,
    told: str | None,
    integral: Integral | Explained,
    arguments: Mapping[str, Any],
    choice: ContextChoice,
    difference: float | None,
) -> dict[str, Any]:
    """The record's `attribution`. `difference` is what the map's shares should add up to."""
    explainer = method.explainer
    mass = integral.total.magnitude()
    rings = _measures.rings(mass, run.region, run.box)
    near = window_of(run.box, run.region)
    through, share = run.through, 0.0
    if through is not None and integral.overview is not None:
        # Each pixel of the overview stands for a block of the image, told by its middle.
        far = integral.overview.magnitude()
        share = float(far.sum() / max(far.sum() + mass.sum(), np.finfo(np.float64).tiny))
        around = _measures.rings(
            far, through.region, run.box, step=through.step, corner=through.corner
        )
        rings = {name: (1 - share) * rings[name] + share * around[name] for name in rings}
    return {
        "method": method.name,
        "source": method.source,
        "path": None if path is None or explainer is not None else path.name,
        "arguments": dict(arguments),
        "baseline": told if explainer is None or explainer.takes_baseline else None,
        "objective": run.objective.name,
        "box": list(run.box),
        "polygon": None if run.polygon is None else run.polygon.to_list(),
        "nodes": [list(node) for node in integral.nodes],
        "rule": integral.rule,
        "region": list(run.region),
        "context": _context(choice, integral.through_context, difference),
        "routing": _routing_of(run),
        "overview_share": share,
        "completeness": {
            "sum": integral.sum,
            "difference": integral.difference,
            "relative_gap": integral.gap,
            "goal": integral.goal,
            "reached": integral.is_complete,
            "recomputed_difference": integral.recomputed_difference,
        },
        "diffusion_index": _measures.diffusion_index(mass),
        "window": {
            "region": list(near),
            "diffusion_index": _measures.diffusion_index(mass[near.within(run.region)]),
        },
        "area_95": _measures.area(mass),
        "rings": rings,
        "identity_share": run.identity(path, integral)
        if path is not None and isinstance(integral, Integral)
        else None,
    }


def _routing_of(run: AttributionRun) -> str:
    if run.fixed_routing:
        return FIXED
    return RECOMPUTED if run.source.plan.model.routing_bytes else "none"


def _context(
    choice: ContextChoice, through: float | None, difference: float | None
) -> dict[str, Any]:
    """What became of the context, and which share of D(x) − D(x′) came through it."""
    rest = difference or 0.0
    if through is not None and choice.used == THROUGH:
        rest -= through
    return {
        **asdict(choice),
        "difference": through,
        "share": share_of(through, rest),
    }
