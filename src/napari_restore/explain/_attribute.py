"""Attributes a number computed from a box of the output to the pixels of the input."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as File
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Note, Phase, Region, make_plan, return_freed_memory
from napari_restore.engine.gradients import GradientSource
from napari_restore.errors import BadParameter, BadRegion, BudgetTooSmall, option
from napari_restore.explain import _curves
from napari_restore.explain._attribution import Attribution, Overview
from napari_restore.explain._attribution_record import attribution_record
from napari_restore.explain._attribution_run import AttributionRun, Emit, Watch
from napari_restore.explain._baselines import NAMES, PathInputs, path_of
from napari_restore.explain._context_choice import choose_context
from napari_restore.explain._integral import Integral
from napari_restore.explain._methods import (
    AUTO,
    FIXED,
    RECOMPUTED,
    STOP,
    THROUGH,
    Method,
    check_request,
    method_of,
)
from napari_restore.explain._objectives import (
    OBJECTIVES,
    objective_of,
)
from napari_restore.explain._paths import Counted
from napari_restore.explain._polygon import Polygon, polygon_of
from napari_restore.explain._quadrature import NESTED, Quadrature, clenshaw_curtis, fixed
from napari_restore.explain.explainers._problem import Problem
from napari_restore.explain.explainers._run_explainer import ExplainerMap, run_explainer, version_of
from napari_restore.explain.sums._sums import Sums
from napari_restore.images import Image, open_image
from napari_restore.models import RestorationModel, load

PLAN_OPTIONS = (
    *("black", "white", "exclude", "extent", "context", "other_bands"),
    *("memory", "device_memory", "device", "workers", "scratch"),
)
"""Options of a plan that change a map, or choose the machine's resources."""
MOSTLY_INPUT = 0.9
"""Share of the mass above which a map shows little more than the input itself."""


def attribute(
    image: Image,
    model: RestorationModel,
    box: Region | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    method: str | None = None,
    objective: str | None = None,
    baseline: str | None = None,
    steps: str | int | None = None,
    rule: str | None = None,
    gap: float = 0.01,
    context_gradient: str = AUTO,
    routing: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    check: str | None = None,
    emit: Emit = lambda event: None,
    stop: threading.Event | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Attribution:
    """Return the share of every input pixel in a scalar objective of a box of the model's output.

    Parameters
    ----------
    image, model, options
        As `make_plan` takes them.
    box
        Level-0 pixels of the output. This or `polygon`.
    polygon
        Vertices (y, x) in level-0 pixels, edges at whole numbers. The box is then the smallest that
        contains it, and pixels whose centre lies outside do not count for the objective.
    method
        A name of `METHODS`, by default the one for the model's task; it gives the defaults of the
        options below that are None. Or ``smoothgrad``, ``occlusion``, ``captum:NAME``, or a method of another
        package.
    objective
        See `objective_of`.
    baseline
        Start of a straight path: a name of `NAMES`, or an image file of the same size.
    steps
        ``"auto"``: 9, 17, 33, 65 nested nodes until the completeness gap is at most `gap`; or a
        number.
    rule
        Quadrature rule for a number of steps: a name of `RULES`.
    gap
        Relative completeness gap at which ``"auto"`` stops.
    context_gradient
        ``"stop"`` takes the statistics of the whole image as constants; ``"through"`` computes them
        from the overview of every image of the path and gives the overview's pixels shares; ``"auto"``
        goes through where that is predicted to add less than ten seconds. The record's
        ``context`` states the choice, its reason, and the share of the change that came through it.
    routing
        Which experts and tokens a network chooses: ``"fixed"`` as for the image itself, so that D is
        smooth along the path; or ``"recomputed"`` at every point, where a different choice is a
        discontinuity without a gradient. Default: the method's.
    arguments
        Arguments by name, of a method that is not a path integral.
    check
        ``"insertion-deletion"``: whether the map ranks pixels better than chance, see
        `insertion_deletion`; the result is in the record's `checks`.
    emit, stop
        Callback for events; an event that cancels the run when set, which raises `Cancelled`.
    watch
        Callback for the partial map after every point, if it has at most four million pixels.
    """
    chosen = method_of(method, model.card)
    explainer, arguments_used = chosen.explainer, dict(arguments or {})
    if check is not None and explainer is not None:
        # The check needs a baseline even where the method itself has none.
        chosen = replace(chosen, path="straight")
    _check(chosen, arguments_used, check, context_gradient, options)
    check_request(chosen, baseline, steps, rule, context_gradient, routing)
    fixed_routing = _is_fixed(routing, chosen, model)
    value_bytes = None if check is None else _curves.VALUE_BYTES
    if explainer is not None:
        arguments_used = explainer.arguments(chosen.name, arguments_used)
        value_bytes = explainer.bytes(arguments_used) + (value_bytes or 0)
    shape = None if polygon is None else polygon_of(polygon)
    box = _box_within(_box_of(box, shape), image)
    objective_region = _input_of(objective or chosen.objective, box, image)
    # Only the path's tensors are reused by the next node: freeing those of planning saves memory.
    return_freed_memory()
    plan = make_plan(image, model, region=objective_region, **options)
    stop = stop or threading.Event()
    target = objective_of(objective or chosen.objective, len(plan.bands))
    rules = _rules(chosen.steps if steps is None else steps, rule or chosen.rule)
    start = chosen.baseline if baseline is None else baseline

    def open_model(name: str) -> GradientSource:
        return GradientSource(
            make_plan(image, load(name), region=objective_region, **options), emit, stop
        )

    with GradientSource(plan, emit, stop) as source:
        clear = _clear_image(start, source, box, options) if chosen.takes_baseline else None
        choice, context = choose_context(
            context_gradient,
            source,
            chosen,
            start,
            clear,
            open_model,
            points=None if len(rules) > 1 else len(rules[0].nodes),
            check=check,
            options=options,
        )
        through = context if choice.used == THROUGH else None
        new_run = partial(AttributionRun, source, box, objective_region, target, len(rules))
        try:
            run = new_run(through, value_bytes, shape, fixed_routing, context)
        except BudgetTooSmall:
            if context_gradient != AUTO or context is None:
                raise
            through = context = None
            choice = choice.stopped_for("going through it does not fit the memory budget")
            run = new_run(None, value_bytes, shape, fixed_routing, None)
        inputs = PathInputs(source, run.region, run.image, open_model, run.is_small)
        path, baseline_text = None, None
        if chosen.path:
            path, baseline_text = path_of(chosen.path, start, inputs, clear, len(rules[0].nodes))
            path = Counted(path, run.image, run.valid)

        def problem() -> Problem:
            return Problem(run, None if path is None else path.at(0.0, run.region)[0], emit)

        integral: Integral | ExplainerMap
        if explainer is not None:
            emit(Phase("Running the method"))
            sums = Sums(run.region, run.bands, 1)
            integral = run_explainer(explainer, chosen.name, problem(), arguments_used, sums, gap)
            difference = None
            if path is not None and context is not None:
                end, begin = run.value(path, 1.0), run.value(path, 0.0)
                difference = end - begin
                integral = replace(integral, through_context=run.through_context(path, begin))
        else:
            assert path is not None
            emit(Phase("Following the path"))
            start_key = start if clear is None else clear.plan.key
            used = THROUGH if through is not None else STOP
            accumulator = run.accumulator(rules, [chosen.path, start_key, used, fixed_routing])
            integral = run.along(path, accumulator, gap, emit, watch)
            difference = integral.difference
        attribution = attribution_record(
            run, chosen, path, baseline_text, integral, arguments_used, choice, difference
        )
        if check is not None:
            emit(Phase("Checking the map"))
            curves = _curves.insertion_deletion(problem(), integral.total.magnitude())
            attribution["checks"] = {check: {"baseline": baseline_text, **curves}}
    record = source.finished_record(run.needed_bytes)
    if explainer is not None and explainer.package:
        record["versions"][explainer.package] = version_of(explainer.package)
    if clear is not None:
        start = str(File(start).resolve())
    attribution["request"] = {
        "box": list(box) if shape is None else None,
        "polygon": None if shape is None else shape.to_list(),
        "method": chosen.name,
        "objective": target.name,
        "baseline": start if chosen.takes_baseline else None,
        "steps": chosen.steps if steps is None and explainer is None else steps,
        "rule": rule,
        "gap": gap,
        # The setting that was used: a rerun must not depend on the memory budget.
        "context_gradient": STOP if through is None else THROUGH,
        "routing": routing,
        "arguments": arguments_used,
        "check": check,
    }
    if clear is not None:
        attribution["baseline_fingerprint"] = clear.plan.image.fingerprint
    share = attribution["identity_share"]
    if share is not None and share > MOSTLY_INPUT:
        emit(
            Note(
                f"{share:.0%} of the map is the input that passes unchanged; "
                "the objective change leaves that out."
            )
        )
    record["attribution"] = attribution
    overview = None
    if integral.overview is not None and through is not None:
        whole = integral.overview.read(through.region)
        values = np.moveaxis(whole, 0, 2).astype(np.float32)
        overview = Overview(values, through.step, through.corner)

    def picture(part: Region) -> npt.NDArray[np.float32]:
        pixels: npt.NDArray[np.float32] = source.image(part)[0].permute(1, 2, 0).numpy(force=True)
        return pixels

    integral.total.deliver()
    return Attribution(integral.total, box, record, image, picture, overview)


def _is_fixed(routing: str | None, method: Method, model: RestorationModel) -> bool:
    """Return whether the model's routing is fixed along the path; raises `BadParameter`."""
    chooses = model.routing_bytes > 0
    if routing not in (None, FIXED, RECOMPUTED):
        raise BadParameter(f"Routing cannot be {routing!r}.", f"Write {FIXED} or {RECOMPUTED}.")
    if routing is not None and not chooses:
        raise BadParameter(
            f"{model.card.id} has no routing that could be fixed.",
            f"Leave {option('routing')} out.",
        )
    return chooses and (routing or method.routing) == FIXED


def _rules(steps: str | int, rule: str) -> list[Quadrature]:
    """Return the quadrature rules to try in turn; raises `BadParameter`."""
    if steps == AUTO:
        return [clenshaw_curtis(count) for count in NESTED]
    try:
        return [fixed(rule, int(steps))]
    except ValueError:
        raise BadParameter(
            f"{steps!r} is no number of steps.", "Write auto or a number such as 16."
        ) from None


def _check(
    chosen: Method,
    arguments: Mapping[str, Any],
    check: str | None,
    context_gradient: str,
    options: Mapping[str, Any],
) -> None:
    """Raise `BadParameter` for options that are unknown or would have no effect."""
    if context_gradient not in (AUTO, STOP, THROUGH):
        raise BadParameter(
            f"The context gradient cannot be {context_gradient!r}.",
            f"Write {AUTO}, {STOP} or {THROUGH}.",
        )
    if arguments and chosen.explainer is None:
        raise BadParameter(
            f"Method {chosen.name} takes no {option('arguments')}.",
            f"It has {option('steps')}, {option('rule')}, {option('gap')} and {option('baseline')}.",
        )
    _curves.check_name(check)
    if check is not None and context_gradient == THROUGH:
        raise BadParameter(
            "The check takes the context as a constant.",
            f"Leave {option('context_gradient', 'through')} out.",
        )
    for name in options:
        if name not in PLAN_OPTIONS:
            raise BadParameter(
                f"Attribution takes no option {name}.", f"It takes {', '.join(PLAN_OPTIONS)}."
            )


def _input_of(objective: str, box: Region, image: Image) -> Region:
    """Return the box and the pixels beyond it that the objective reads."""
    beyond = OBJECTIVES[objective].beyond if objective in OBJECTIVES else 0
    wide = Region(box.y0, box.x0, box.y1 + beyond, box.x1 + beyond)
    return wide.intersect(Region(0, 0, image.height, image.width))


def _box_of(box: Region | None, polygon: Polygon | None) -> Region:
    """Return the box, or that of the polygon; raises `BadParameter` unless exactly one is given."""
    if box is not None and polygon is None:
        return Region(*box)
    if box is None and polygon is not None:
        return polygon.box
    raise BadParameter("An attribution target is a box or a polygon.", "Give one of the two.")


def _box_within(box: Region, image: Image) -> Region:
    """Return the part of `box` within the image; raises `BadRegion` where there is none."""
    inside = box.intersect(Region(0, 0, image.height, image.width))
    if inside.is_empty:
        raise BadRegion(
            f"The box lies outside of {image.name}, which has {image.width} × {image.height} pixels.",
            "Give a box within it.",
        )
    return inside


def _clear_image(
    name: str, source: GradientSource, box: Region, options: Mapping[str, Any]
) -> GradientSource | None:
    """Open the clear image that a baseline names, with the value range of the image; None for names."""
    if name in NAMES or not name or not File(name).exists():
        return None
    image, plan = open_image(name), source.plan
    if (image.height, image.width) != source.size:
        raise BadParameter(
            f"{image.name} has {image.width} × {image.height} pixels, the image "
            f"{source.size[1]} × {source.size[0]}.",
            "Name a clear image of the same size.",
        )
    machine = {name: options[name] for name in ("memory", "device", "scratch") if name in options}
    if image.dtype == plan.image.dtype:
        # Equal values must mean equal radiance in both, also where the range is measured.
        machine |= source.range
    identity_plan = make_plan(image, load("identity"), region=box, **machine)
    return GradientSource(identity_plan, lambda event: None, source.stop)
