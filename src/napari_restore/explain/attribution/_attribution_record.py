"""Writes the `attribution` part of a record."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from napari_restore.explain.attribution import _measures
from napari_restore.explain.attribution._attribution import window_of
from napari_restore.explain.attribution._attribution_run import AttributionRun
from napari_restore.explain.attribution._context_choice import ContextChoice, share_of
from napari_restore.explain.attribution._integral import Integral
from napari_restore.explain.attribution._run_explainer import ExplainerMap
from napari_restore.explain.attribution._setup import Setup
from napari_restore.questions import FIXED, RECOMPUTED, STOP, THROUGH


def attribution_record(setup: Setup, integral: Integral | ExplainerMap) -> dict[str, Any]:
    """Return the record's `attribution`."""
    request, run, path = setup.request, setup.run, setup.path
    method, explainer = request.method, request.method.explainer
    mass = integral.total.magnitude()
    rings = _measures.rings(mass, run.region, run.box)
    window = window_of(run.box, run.region)
    through, overview_share = run.through, 0.0
    if through is not None and integral.overview is not None:
        # Each pixel of the overview stands for a block of the image, placed at its centre.
        overview_mass = integral.overview.magnitude()
        overview_share = float(
            overview_mass.sum() / max(overview_mass.sum() + mass.sum(), np.finfo(np.float64).tiny)
        )
        overview_rings = _measures.rings(
            overview_mass, through.region, run.box, step=through.step, corner=through.corner
        )
        rings = {
            name: (1 - overview_share) * rings[name] + overview_share * overview_rings[name]
            for name in rings
        }
    clear = setup.clear
    record: dict[str, Any] = {
        "method": method.name,
        "source": method.source,
        "path": None if path is None or explainer is not None else path.name,
        "arguments": dict(request.arguments),
        "baseline": setup.baseline_text if explainer is None or explainer.takes_baseline else None,
        "objective": run.objective.name,
        "box": list(run.box),
        "polygon": None if run.polygon is None else run.polygon.to_list(),
        "nodes": [list(map(_finite, node)) for node in integral.nodes],
        "rule": integral.rule,
        "region": list(run.region),
        "context": _context(setup.context, integral),
        "routing": _routing_of(run),
        "overview_share": overview_share,
        "completeness": {
            "sum": integral.sum,
            "difference": _finite(integral.difference),
            "relative_gap": integral.gap,
            "goal": integral.goal,
            "reached": integral.is_complete,
            "recomputed_difference": _finite(integral.recomputed_difference),
        },
        "diffusion_index": _measures.diffusion_index(mass),
        "window": {
            "region": list(window),
            "diffusion_index": _measures.diffusion_index(mass[window.within(run.region)]),
        },
        "area_95": _measures.area(mass),
        "rings": rings,
        "identity_share": run.identity(path, integral)
        if path is not None and isinstance(integral, Integral)
        else None,
        "request": request.to_dict(
            clear_image=clear is not None,
            context_gradient=THROUGH if setup.context.used == THROUGH else STOP,
        ),
    }
    image = run.source.plan.image
    if image.companions is not None:
        record["frames"] = [
            {
                "path": None if frame.path is None else str(frame.path),
                "ev": exposure,
                **shares,
            }
            for frame, exposure, shares in zip(
                image.frames,
                image.companions.exposures,
                _measures.shares_of(integral.total, image.companions.frames),
                strict=True,
            )
        ]
    if clear is not None:
        record["baseline_fingerprint"] = clear.plan.image.fingerprint
    return record


def _finite(value: float | None) -> float | None:
    """Return `value`; None for one that JSON does not have."""
    return None if value is None or not math.isfinite(value) else value


def _routing_of(run: AttributionRun) -> str:
    """Return `FIXED`, `RECOMPUTED`, or ``"none"`` for a model without routing."""
    if run.fixed_routing:
        return FIXED
    return RECOMPUTED if run.gradients.routes else "none"


def _context(context: ContextChoice, integral: Integral | ExplainerMap) -> dict[str, Any]:
    """Return how the context was treated, and its part in D(x) − D(x′)."""
    through = _finite(integral.through_context)
    pixel_difference = _finite(integral.path_difference) or 0.0
    if through is not None and context.used == THROUGH:
        pixel_difference -= through
    return {
        **asdict(context),
        "difference": through,
        "share": share_of(through, pixel_difference),
    }
