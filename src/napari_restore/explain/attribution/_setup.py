"""Sets up the run of a request, and computes its map by a path or by another method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_restore._heap import release_freed_memory
from napari_restore.engine import Emit, Note, Phase
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.errors import BadParameter, BudgetTooSmall, DiskFull, RestoreError, option
from napari_restore.explain.attribution._integral import ComputedMap
from napari_restore.explain.attribution._layer import NEAREST, AttributedLayer
from napari_restore.explain.attribution._problem import Problem
from napari_restore.explain.attribution._request import CheckedAttribution
from napari_restore.explain.attribution._segments import Segments
from napari_restore.explain.attribution._sums import Summed
from napari_restore.explain.attribution.attribution_run import AttributionRun, UnboundedEnd, Watch
from napari_restore.explain.attribution.baselines import OpenModel, PathInputs, path_of
from napari_restore.explain.attribution.context_choice import ContextChoice, choose_context
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.explain.attribution.objectives import Objective
from napari_restore.explain.attribution.paths import Counted
from napari_restore.explain.attribution.quadrature import fejer
from napari_restore.questions import AUTO, STOP, THROUGH


@dataclass(frozen=True)
class Setup:
    """A request with its run and path, before the map is computed."""

    request: CheckedAttribution
    run: AttributionRun
    context: ContextChoice
    path: Counted | None
    """None for methods without a baseline."""
    baseline_text: str | None
    """The description of the path's baseline for the record."""
    clear: GradientSource | None
    """The clear image that the baseline is."""
    layer: AttributedLayer | None
    """The layer that is attributed to, in place of the pixels."""
    segments: Segments | None
    """The segments that get one share each."""

    def problem(self, emit: Emit) -> Problem:
        """Return the image and the objective, for methods that evaluate images of their own."""
        start = None if self.path is None else self.path.at(0.0, self.run.region)[0]
        return Problem(self.run, start, emit, self.layer, self.segments)


def set_up(
    request: CheckedAttribution,
    source: GradientSource,
    objective: Objective,
    clear: GradientSource | None,
    open_model: OpenModel,
    segments: Any = None,
) -> Setup:
    """Choose how the context is treated, and open run and path; raises `BadParameter`, `BudgetTooSmall`.

    `segments` are as the user gave them.
    """
    choice, context = choose_context(
        request,
        source,
        partial(ContextGradient, source, request.method.path, request.baseline, clear, open_model),
    )
    new_run = partial(
        AttributionRun,
        source,
        request.target,
        objective,
        rules=len(request.rules),
        value_bytes=request.value_bytes,
        fixed_routing=request.fixed_routing,
    )
    try:
        run = new_run(context=context, through=choice.used == THROUGH)
    except (BudgetTooSmall, DiskFull):
        if request.settings.context_gradient != AUTO or choice.used != THROUGH:
            raise
        choice = choice.stopped_for("going through it does not fit the memory budget")
        run = new_run(context=None, through=False)
    name = request.settings.layer
    layer = None if name is None else AttributedLayer(run, name)
    parts = None if segments is None else Segments.of(segments, run)
    path = text = None
    if request.method.path:
        room = source.plan.memory - run.needed_bytes
        inputs = PathInputs(source, run.region, run.image, open_model, run.is_small, room)
        steps = len(request.rules[0].nodes)
        found, text = path_of(request.method.path, request.baseline, inputs, clear, steps)
        path = Counted(found, run.image, run.valid)
    return Setup(request, run, choice, path, text, clear, layer, parts)


def compute_map(setup: Setup, emit: Emit, watch: Watch | None) -> ComputedMap:
    """Compute the map of a method; events go to `emit`, partial maps of a path to `watch`."""
    if setup.segments is not None and (note := setup.segments.note(setup.run.box)):
        emit(Note(note))
    try:
        if setup.request.method.explainer is None:
            return _integrate(setup, emit, watch)
        return _explain(setup, emit)
    finally:
        # What follows has other sizes.
        release_freed_memory()


def _integrate(setup: Setup, emit: Emit, watch: Watch | None) -> ComputedMap:
    """Integrate along the path; points of an interrupted run are reused."""
    run, request = setup.run, setup.request
    most, goal = len(request.rules[-1].nodes), request.settings.gap
    until = "" if request.points else f" to {most} points, or to a gap of {goal:.2g}"
    emit(Phase(f"Following the path{until}"))
    start = request.baseline if setup.clear is None else setup.clear.plan.key
    used = THROUGH if setup.context.used == THROUGH else STOP
    settings = [request.method.path, start, used, request.fixed_routing]
    if (output := request.target.output) is not None:
        settings.append(list(output.box))

    assert setup.path is not None
    along = partial(run.along, setup.path, settings, request.settings.gap, emit, watch)
    try:
        return along(request.rules)
    except UnboundedEnd:
        return along([fejer(len(rule.nodes) - 2) for rule in request.rules])


def _explain(setup: Setup, emit: Emit) -> ComputedMap:
    """Run a method that is not a path integral."""
    run, path = setup.run, setup.path
    emit(Phase("Running the method"))
    computed = run_explainer(setup.request, setup.problem(emit))
    if path is None or run.context is None:
        return computed
    end, start = run.value(path, 1.0), run.value(path, 0.0)
    return replace(
        computed,
        path_difference=end - start,
        through_context=run.through_context(path, start),
    )


def run_explainer(request: CheckedAttribution, problem: Problem) -> ComputedMap:
    """Return the map of a method that is not a path integral; raises `BadParameter` if invalid."""
    explainer, name = request.method.explainer, request.method.name
    assert explainer is not None
    try:
        shares: Any = explainer.function(problem, **request.arguments)
    except RestoreError:
        raise
    except Exception as error:
        if not explainer.package:
            raise
        cause = f"{type(error).__name__}: {error}".rstrip(": .")
        raise BadParameter(
            f"Method {name} failed: {cause}.",
            f"Check its {option('arguments')} values against its documentation.",
        ) from error
    shares, total = _in_pixels(problem, name, shares, request.arguments)
    if lost := int((~shares.isfinite()).sum()):
        raise BadParameter(
            f"{lost} of {shares.numel()} values of the map of method {name} are not finite.",
            f"Choose other {option('arguments')} values, or another {option('baseline')}.",
        )
    # Zeros have no sign, as in a sum.
    values = shares[0].numpy(force=True).astype(np.float64) + 0.0
    made, done = Summed(problem.region, len(values), values), problem.evaluations
    if not explainer.is_complete:
        return ComputedMap(made, None, None, (), None, (math.nan, math.nan), None, done)
    with torch.no_grad():
        start, end = problem.ends()
    return ComputedMap(made, None, None, (), total, (start, end), request.settings.gap, done)


def _in_pixels(
    problem: Problem, name: str, shares: Any, arguments: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """Return a method's map (1, C or 1, h, w), 0 where pixels do not count, and its sum; raises `BadParameter`."""
    expected = tuple(problem.image.shape)
    if problem.is_of_layer:
        cells = problem.layer_map(problem.image).shape[2:]
        expected = (1, *getattr(shares, "shape", expected)[1:2], *cells)
    if not isinstance(shares, Tensor) or shares.shape != expected:
        shape = tuple(shares.shape) if isinstance(shares, Tensor) else type(shares).__name__
        raise BadParameter(
            f"Method {name} gave no map of the image: {shape}.",
            f"It must give a tensor of {expected}.",
        )
    shares = shares.detach().to(problem.image.device)
    counts = 1 if problem.valid is None else problem.valid
    if not problem.is_of_layer:
        shares = shares * counts
        return shares, float(shares.sum(dtype=torch.float64))
    # A pixel has the value of its cell: the cells add up.
    total = float(shares.sum(dtype=torch.float64))
    return problem.layer.upsampled(shares, arguments.get("interpolation", NEAREST)) * counts, total
