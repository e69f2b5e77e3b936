"""Attributes a number computed from a box of the output to the pixels of the input."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from os import PathLike, fspath
from pathlib import Path as File
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
import numpy.typing as npt
import torch

from napari_restore._heap import return_freed_memory
from napari_restore.engine import Emit, Note, Phase, Plan, Region, make_plan, plan_in_sweeps
from napari_restore.engine.gradients.gradient_source import GradientSource, restored
from napari_restore.engine.gradients.layer import layer_of
from napari_restore.errors import BadParameter, BudgetTooSmall, Message, option
from napari_restore.explain.attribution import curves as _curves, measures
from napari_restore.explain.attribution._integral import ComputedMap
from napari_restore.explain.attribution._overview import OverviewShares
from napari_restore.explain.attribution._problem import version_of
from napari_restore.explain.attribution._request import (
    CheckedAttribution,
    check_bracket,
    request_of,
    target_of,
)
from napari_restore.explain.attribution._setup import Setup, compute_map, set_up
from napari_restore.explain.attribution.attribution import Attribution, window_of
from napari_restore.explain.attribution.attribution_run import Watch
from napari_restore.explain.attribution.baselines import NAMES
from napari_restore.explain.attribution.context_choice import ContextChoice, share_of
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.explain.attribution.files import mapped_array
from napari_restore.explain.attribution.objectives import (
    Objective,
    check_own,
    objective_of,
    of_results,
    own_objective,
)
from napari_restore.explain.kinds import kind_of
from napari_restore.images import Image, open_image
from napari_restore.models import RestorationModel, load, on_input_grid
from napari_restore.questions import (
    AUTO,
    FIXED,
    RECOMPUTED,
    STOP,
    THROUGH,
    Attribute,
    AttributeKeywords,
    Machine,
    MachineKeywords,
    Reading,
    ReadingKeywords,
    Restore,
    part_of,
    refuse_others,
)

MOSTLY_INPUT = 0.9
"""Share of the mass above which a map shows little more than the input itself."""


class AttributionKeywords(AttributeKeywords, ReadingKeywords, MachineKeywords, total=False):
    """Options of an attribution beside image, model and target."""


def attribute(
    image: Image,
    model: RestorationModel,
    box: Region | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    emit: Emit = lambda event: None,
    stop: threading.Event | None = None,
    watch: Watch | None = None,
    trust: bool = False,
    **options: Unpack[AttributionKeywords],
) -> Attribution:
    """Return the share of every input pixel in a scalar objective of a box of the model's output.

    Arguments are described by `napari_restore.attribute`, `options` in `Attribute`, `Reading` and
    `Machine`. The box of a `polygon` is the smallest that contains it, and pixels whose centre lies
    outside do not count for the objective. `watch` is called with the partial map after every point,
    if it has at most four million pixels. The `steps` "auto" are 9, 17, 33, 65 nested nodes. Routing
    is fixed where D is to be smooth along the path: a choice that changes is a discontinuity without
    a gradient. What `check` finds is in the record's ``checks``. Code of an objective in a file runs
    only with `trust`; an objective or a baseline that is in no file leaves the record without a request.
    """
    own = _Own.of(options, trust=trust)
    settings = Attribute(**part_of({**options, **own.names}, Attribute))
    refuse_others("Attribution", options, Attribute, Reading, Machine)
    plan_options = part_of(options, Reading, Machine)
    request = request_of(image, model, box, polygon, settings, plan_options)
    if box is not None and request.target.result_box != Region(*box):
        emit(Note("The box reached beyond the image and was clipped to it."))
    # Only the path's tensors are reused by the next node: freeing those of planning saves memory.
    return_freed_memory()

    # Once, and not for each model that is asked.
    image = image.refreshed()

    where = {**plan_options, "region": request.target.objective_region}

    def plan_of(model: RestorationModel) -> Plan:
        return make_plan(image, on_input_grid(model), compare=False, **where)

    plan, stop = plan_of(model), stop or threading.Event()
    check_bracket(image, request)
    objective = of_results(
        own.checked(request, plan) or objective_of(request.objective, len(plan.bands)),
        request.target,
    )

    def open_model(name: str) -> GradientSource:
        return GradientSource(plan_of(load(name)), emit, stop)

    def opened(plan: Plan, stack: ExitStack) -> Setup:
        source = stack.enter_context(GradientSource(plan, emit, stop))
        clear = _clear_image(request, source, plan_options, own.baseline)
        return set_up(request, source, objective, clear, open_model, own.segments)

    with ExitStack() as stack:
        try:
            setup = opened(plan, stack)
        except BudgetTooSmall as error:
            if not plan.computing.is_whole or settings.layer is not None:
                raise
            # The one pass fits the budget, but not its graph.
            stack.close()
            plan = plan_in_sweeps(error, image, on_input_grid(model), Restore.of(where))
            setup = opened(plan, stack)
            if setup.context.used != THROUGH:
                # The map would be another than that of one pass.
                raise
        computed = compute_map(setup, emit, watch)
        setup.run.check_gradient()
        attribution = attribution_record(setup, computed)
        if settings.check is not None:
            emit(Phase("Checking the map"))
            attribution["checks"] = {settings.check: _checked(setup, computed, emit)}
    record = _record_of(setup, computed, attribution, own, emit)

    computed.total.deliver()
    source = setup.run.source
    unknown = plan.staged or image.companions or request.target.output
    return Attribution(
        computed.total,
        request.target.box,
        record,
        image,
        partial(_picture, source),
        _overview(setup.run.through, computed),
        None if unknown else partial(_output, source),
    )


def _checked(setup: Setup, computed: ComputedMap, emit: Emit) -> dict[str, Any]:
    curves = _curves.insertion_deletion(setup.problem(emit), computed.total.magnitude())
    return {"baseline": setup.baseline_text, **curves}


class _Own(NamedTuple):
    """What is the user's own: functions and arrays instead of names."""

    objective: Objective | None
    baseline: Image | None
    segments: Any
    """As the user gave them."""
    is_in_files: bool
    """Whether a rerun can have them again."""

    @classmethod
    def of(cls, options: Mapping[str, Any], *, trust: bool) -> Self:
        """Return those among options; raises `BadParameter`."""
        start, named = options.get("baseline"), str | PathLike | None
        array = None if isinstance(start, named) else open_image(start)
        objective = own_objective(options.get("objective"), trust=trust)
        own = (start, options.get("objective"), segments := options.get("segments"))
        return cls(objective, array, segments, all(isinstance(each, named) for each in own))

    @property
    def names(self) -> dict[str, str]:
        """What stands for them in settings and record."""
        names = {} if self.baseline is None else {"baseline": self.baseline.name}
        if self.objective is not None:
            names["objective"] = self.objective.path or self.objective.name
        if self.segments is not None:
            is_named = isinstance(self.segments, str | PathLike)
            names["segments"] = fspath(self.segments) if is_named else "array"
        return names

    def checked(self, request: CheckedAttribution, plan: Plan) -> Objective | None:
        """Return the objective, tried on a grey box, and try the layer's name; raises `BadParameter`."""
        if request.settings.layer is not None:
            layer_of(plan.model, request.settings.layer)
        if self.objective is not None:
            if request.target.polygon is not None:
                raise BadParameter(
                    "An objective of your own is of a box: it cannot leave out what a polygon does.",
                    "Give a box.",
                )
            size = (1, len(plan.bands), *request.target.result_box.shape)
            check_own(self.objective, torch.full(size, 0.5, device=plan.device.torch))
        return self.objective


def _record_of(
    setup: Setup,
    computed: ComputedMap,
    attribution: dict[str, Any],
    own: _Own,
    emit: Emit,
) -> dict[str, Any]:
    """Return the record of a finished run; send what is to be noted of its map."""
    explainer, digest = setup.request.method.explainer, setup.run.objective.digest
    record = setup.run.source.finished_record(setup.run.needed_bytes)
    if explainer is not None and explainer.package:
        record["versions"][explainer.package] = version_of(explainer.package)
    if (attribution["identity_share"] or 0) > MOSTLY_INPUT:
        shown = f"{attribution['identity_share']:.0%} of the map is the input that passes unchanged"
        emit(Note(f"{shown}; the objective change leaves that out."))
    if digest:
        attribution["objective_sha256"] = digest
    if not own.is_in_files:
        attribution["request"] = None
    record["attribution"] = attribution
    if lost := _not_finite(computed, attribution):
        emit(Note(lost))
        record["notes"] = [str(Message(lost))]
    return record


def _picture(source: GradientSource, part: Region) -> npt.NDArray[np.float32]:
    return _pixels(source.image(part)[:, source.own])


def _output(source: GradientSource, part: Region) -> npt.NDArray[np.float32]:
    return _pixels(restored(source, part))


def _pixels(planes: torch.Tensor) -> npt.NDArray[np.float32]:
    pixels: npt.NDArray[np.float32] = planes[0].permute(1, 2, 0).numpy(force=True)
    return pixels


def picture_of(
    image: Image,
    model: RestorationModel,
    recorded: Mapping[str, Any],
    part: Region,
    **options: Any,
) -> npt.NDArray[np.float32]:
    """Return what `Attribution.picture` does, once more: `recorded` are its box and objective.

    `options` are those of the plan.
    """
    model = on_input_grid(model)
    target = target_of(image, Region(*recorded["box"]), None, recorded["objective"], model)
    plan = make_plan(image, model, region=target.objective_region, **options)
    with GradientSource(plan, lambda event: None, threading.Event()) as source:
        return _picture(source, part)


def _not_finite(computed: ComputedMap, attribution: dict[str, Any]) -> str:
    """Return sentences on values of the map and of D that are not finite, and count them; else ""."""
    count, parts = computed.total.not_finite(), []
    if count:
        attribution["not_finite"] = count
        values = computed.total.region.pixels * computed.total.bands
        parts.append(
            f"{count} of {values} values of the map are not finite, as the gradient is not (that of a "
            "root is not at black): they are left out of its sum and its measures."
        )
    start, end = computed.ends if computed.nodes else (0.0, 0.0)
    for value, name in ((start, "where the path begins"), (end, "for the image itself")):
        if not math.isfinite(value):
            parts.append(f"D is not finite {name}: whether the map is complete is not known.")
    if (count or not math.isfinite(start)) and attribution["baseline"] == "zeros":
        parts.append(f"Try {option('baseline', 'blur')}.")
    return " ".join(parts)


def _overview(through: ContextGradient | None, computed: ComputedMap) -> OverviewShares | None:
    """Return the shares of the overview's pixels; None where the gradient stops at the context."""
    if computed.overview is None or through is None:
        return None
    whole = computed.overview.read(through.region)
    values = np.moveaxis(whole, 0, 2).astype(np.float32)
    return OverviewShares(values, through.step, through.corner)


def open_baseline(path: str | PathLike[str]) -> Image:
    """Open the image, or the array (.npy), that a path begins with. Raises `InputError`."""
    file = File(path)
    if file.suffix.lower() != ".npy":
        return open_image(path)
    image = open_image(mapped_array(file))
    image.name = file.name
    return image


def _clear_image(
    request: CheckedAttribution,
    source: GradientSource,
    options: Mapping[str, Any],
    array: Image | None,
) -> GradientSource | None:
    """Open the image that a baseline names, or is, with the value range of the image; None for names."""
    name = request.baseline if request.method.takes_baseline else ""
    if array is None and (name in NAMES or not name or not File(name).exists()):
        return None
    image, plan = array or open_baseline(name), source.plan
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
    identity_plan = make_plan(image, load("identity"), region=request.target.box, **machine)
    return GradientSource(identity_plan, lambda event: None, source.stop)


def attribution_record(setup: Setup, integral: ComputedMap) -> dict[str, Any]:
    """Return the record's `attribution`."""
    run, path, request = setup.run, setup.path, setup.request
    method, explainer, output = request.method, request.method.explainer, request.target.output
    path = path if explainer is None else None
    mass = integral.total.magnitude()
    rings = measures.rings(mass, run.region, run.box)
    window = window_of(run.box, run.region)
    through, overview_share = run.through, 0.0
    if through is not None and integral.overview is not None:
        # Each pixel of the overview stands for a block of the image, placed at its centre.
        overview_mass = integral.overview.magnitude()
        overview_share = float(
            overview_mass.sum() / max(overview_mass.sum() + mass.sum(), np.finfo(np.float64).tiny)
        )
        overview_rings = measures.rings(
            overview_mass, through.region, run.box, step=through.step, corner=through.corner
        )
        rings = {
            name: (1 - overview_share) * rings[name] + overview_share * overview_rings[name]
            for name in rings
        }
    near = measures.diffusion_index(mass[window.within(run.region)])
    index, area = measures.spread(mass)
    del mass
    clear = setup.clear
    record: dict[str, Any] = {
        "method": method.name,
        "source": method.source,
        "path": None if path is None else path.name,
        "arguments": dict(request.arguments),
        "baseline": setup.baseline_text if explainer is None or explainer.takes_baseline else None,
        "objective": run.objective.name,
        "box": list(run.box),
        "polygon": None if run.polygon is None else run.polygon.to_list(),
        "layer": None if setup.layer is None else setup.layer.to_dict(),
        "segments": None
        if setup.segments is None
        else setup.segments.to_dict(integral.total, integral.evaluations),
        **({} if output is None else {"output_box": list(output.box), "ratio": str(output.ratio)}),
        "nodes": [list(map(_finite, node)) for node in integral.nodes],
        "rule": integral.rule,
        "region": list(run.region),
        "context": _context(setup.context, integral),
        "routing": FIXED if run.fixed_routing else RECOMPUTED if run.gradients.routes else "none",
        "overview_share": overview_share,
        "completeness": {
            "sum": integral.sum,
            "difference": _finite(integral.difference),
            "relative_gap": integral.gap,
            "goal": integral.goal,
            "reached": integral.is_complete,
            "map_error": integral.map_error,
            "map_settled": integral.is_converged,
            "recomputed_difference": _finite(integral.recomputed_difference),
        },
        "diffusion_index": index,
        "window": {"region": list(window), "diffusion_index": near},
        "area_95": area,
        "rings": rings,
        "identity_share": None if path is None else run.identity(path, integral),
        "request": request.to_dict(
            clear_image=clear is not None,
            context_gradient=_rerun_context_gradient(setup),
        ),
    }
    image = run.source.plan.image
    if image.companions is not None:
        record["frames"] = [
            {"path": None if frame.path is None else str(frame.path), "ev": exposure, **shares}
            for frame, exposure, shares in zip(
                image.frames,
                image.companions.exposures,
                measures.shares_of(integral.total, image.companions.frames),
                strict=True,
            )
        ]
    record["map"] = kind_of(record)._asdict()
    if clear is not None:
        record["baseline_fingerprint"] = clear.plan.image.fingerprint
    return record


def _rerun_context_gradient(setup: Setup) -> str:
    """Return the setting that gives the same map again, also where another budget asks for sweeps."""
    if setup.context.used == THROUGH:
        return THROUGH
    return AUTO if setup.run.source.plan.computing.is_whole else STOP


def _finite(value: float | None) -> float | None:
    """Return `value`; None for one that JSON does not have."""
    return None if value is None or not math.isfinite(value) else value


def _context(context: ContextChoice, integral: ComputedMap) -> dict[str, Any]:
    """Return how the context was treated, and its part in D(x) − D(x′)."""
    through, along = _finite(integral.through_context), integral.path_difference
    pixel_difference = _finite(integral.difference if along is None else along) or 0.0
    if through is not None and context.used == THROUGH:
        pixel_difference -= through
    return {
        **asdict(context),
        "difference": through,
        "share": share_of(through, pixel_difference),
    }
