"""Asks which pixels of an image made what a model does in a box."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as File
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Note, Phase, Region, make_plan
from napari_restore.engine._device import return_freed_memory
from napari_restore.engine.gradients import Opened
from napari_restore.errors import BadParameter, BadRegion, BudgetTooSmall
from napari_restore.explain import _curves
from napari_restore.explain._account import account
from napari_restore.explain._asker import Asker, Emit, Watch
from napari_restore.explain._attribution import Attribution, Overview
from napari_restore.explain._baselines import NAMES, Ground, path_of
from napari_restore.explain._context_choice import choose_context
from napari_restore.explain._integral import Integral
from napari_restore.explain._methods import (
    AUTO,
    FOLLOWED,
    FREE,
    HELD,
    Method,
    check_question,
    method_of,
)
from napari_restore.explain._objectives import (
    OBJECTIVES,
    objective_of,
)
from napari_restore.explain._paths import Counted
from napari_restore.explain._polygon import Polygon, polygon_of
from napari_restore.explain._quadrature import NESTED, Quadrature, clenshaw_curtis, fixed
from napari_restore.explain.explainers._asked import Asked
from napari_restore.explain.explainers._explained import Explained, explained, version_of
from napari_restore.explain.sums._sums import Sums
from napari_restore.images import Image, open_image
from napari_restore.models import RestorationModel, load

TAKEN = (
    *("black", "white", "exclude", "extent", "context", "other_bands"),
    *("memory", "device_memory", "device", "workers", "scratch"),
)
"""Options of a plan that change a map or say on what it is made."""
MOSTLY_INPUT = 0.9
"""Share of the mass from which on a map shows little but the input itself."""


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
    facts: str = AUTO,
    choices: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    check: str | None = None,
    emit: Emit = lambda event: None,
    stop: threading.Event | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Attribution:
    """The share of every pixel in a number that hangs on a box of the model's output.

    Parameters
    ----------
    image, model, options
        As `make_plan` takes them.
    box
        Level-0 pixels of the output. This or `polygon`.
    polygon
        Vertices (y, x) in level-0 pixels, edges at whole numbers. The box is then the smallest that
        holds it, and pixels whose centre lies outside do not count for the objective.
    method
        A name of `METHODS`, by default the one for the model's task; it says what the others are
        where they are None. Or ``smoothgrad``, ``occlusion``, ``captum:NAME``, or a method of another
        package.
    objective
        See `objective_of`.
    baseline
        Of a straight path: a name of `NAMES`, or an image file of the same size.
    steps
        ``"auto"``: 9, 17, 33, 65 nested nodes until the gap is small; or a number.
    rule
        With a number of steps: a name of `RULES`.
    gap
        Relative completeness gap at which ``"auto"`` stops.
    facts
        The context, which is what the model draws from the whole image: ``"held"`` constant,
        ``"followed"`` through the overview along the path, with shares for the overview's pixels, or
        ``"auto"``: followed where that is predicted to add less than ten seconds. The record's
        ``context`` has the choice, its reason, and the share of the change that came through it.
    choices
        Of a model that decides, such as which experts a token asks: ``"held"`` as the image has them,
        so that what is asked is smooth along the path; or ``"free"``, made anew at every point,
        where every change of mind is a jump that no gradient sees. By default as the method has it.
    arguments
        Of a method that is no path, by name.
    check
        ``"insertion-deletion"``: whether the map ranks pixels better than chance, see
        `insertion_deletion`; the record's `checks` tell it.
    emit, stop
        Takes the events; ends the work when it is set, with `Cancelled`.
    watch
        Takes the map as far as it is after every point, if it has at most four million pixels.
    """
    chosen = method_of(method, model.card)
    explainer, given = chosen.explainer, dict(arguments or {})
    if check is not None and explainer is not None:
        # What makes its map without a baseline is checked from one.
        chosen = replace(chosen, path="straight")
    _check(chosen, given, check, facts, options)
    check_question(chosen, baseline, steps, rule, facts, choices)
    hold = _holds(choices, chosen, model)
    held = None if check is None else _curves.HELD
    if explainer is not None:
        given = explainer.arguments(chosen.name, given)
        held = explainer.bytes(given) + (held or 0)
    shape = None if polygon is None else polygon_of(polygon)
    box = _box_within(_box_of(box, shape), image)
    seen = _seen_by(objective or chosen.objective, box, image)
    # The path's tensors are kept for its next node, those of planning and looking are not.
    return_freed_memory()
    plan = make_plan(image, model, region=seen, **options)
    stop = stop or threading.Event()
    wanted = objective_of(objective or chosen.objective, len(plan.bands))
    rules = _rules(chosen.steps if steps is None else steps, rule or chosen.rule)
    start = chosen.baseline if baseline is None else baseline

    def open_model(name: str) -> Opened:
        return Opened(make_plan(image, load(name), region=seen, **options), emit, stop)

    with Opened(plan, emit, stop) as opened:
        clear = _clear_image(start, opened, box, options) if chosen.takes_baseline else None
        choice, context = choose_context(
            facts,
            opened,
            chosen,
            start,
            clear,
            open_model,
            points=None if len(rules) > 1 else len(rules[0].nodes),
            check=check,
            options=options,
        )
        followed = context if choice.used == FOLLOWED else None
        asking = partial(Asker, opened, box, seen, wanted, len(rules))
        try:
            asker = asking(followed, held, shape, hold, context)
        except BudgetTooSmall:
            if facts != AUTO or context is None:
                raise
            followed = context = None
            choice = choice.held_for("following it does not fit the memory budget")
            asker = asking(None, held, shape, hold, None)
        ground = Ground(opened, asker.region, asker.image, open_model, asker.is_small)
        path, told = None, None
        if chosen.path:
            path, told = path_of(chosen.path, start, ground, clear, len(rules[0].nodes))
            path = Counted(path, asker.image, asker.valid)

        def asked() -> Asked:
            return Asked(asker, None if path is None else path.at(0.0, asker.region)[0], emit)

        integral: Integral | Explained
        if explainer is not None:
            emit(Phase("Asking the model"))
            sums = Sums(asker.region, asker.bands, 1)
            integral = explained(explainer, chosen.name, asked(), given, sums, gap)
            difference = None
            if path is not None and context is not None:
                end, begun = asker.value(path, 1.0), asker.value(path, 0.0)
                difference = end - begun
                through = asker.through_context(path, begun)
                integral = replace(integral, through_context=through)
        else:
            assert path is not None
            emit(Phase("Following the path"))
            begin = start if clear is None else clear.plan.key
            used = FOLLOWED if followed is not None else HELD
            tally = asker.tally(rules, [chosen.path, begin, used, hold])
            integral = asker.along(path, tally, gap, emit, watch)
            difference = integral.difference
        found = account(asker, chosen, path, told, integral, given, choice, difference)
        if check is not None:
            emit(Phase("Checking the map"))
            curves = _curves.insertion_deletion(asked(), integral.total.magnitude())
            found["checks"] = {check: {"baseline": told, **curves}}
    record = opened.account(asker.needed_bytes)
    if explainer is not None and explainer.package:
        record["versions"][explainer.package] = version_of(explainer.package)
    if clear is not None:
        start = str(File(start).resolve())
    found["request"] = {
        "box": list(box) if shape is None else None,
        "polygon": None if shape is None else shape.to_list(),
        "method": chosen.name,
        "objective": wanted.name,
        "baseline": start if chosen.takes_baseline else None,
        "steps": chosen.steps if steps is None and explainer is None else steps,
        "rule": rule,
        "gap": gap,
        # What was used, so that it is asked again in the same way whatever the budget.
        "facts": HELD if followed is None else FOLLOWED,
        "choices": choices,
        "arguments": given,
        "check": check,
    }
    if clear is not None:
        found["baseline_fingerprint"] = clear.plan.image.fingerprint
    share = found["identity_share"]
    if share is not None and share > MOSTLY_INPUT:
        emit(
            Note(
                f"{share:.0%} of the map is the input that passes unchanged; "
                "the objective change leaves that out."
            )
        )
    record["attribution"] = found
    overview = None
    if integral.overview is not None and followed is not None:
        whole = integral.overview.read(followed.region)
        values = np.moveaxis(whole, 0, 2).astype(np.float32)
        overview = Overview(values, followed.step, followed.corner)

    def picture(part: Region) -> npt.NDArray[np.float32]:
        shown: npt.NDArray[np.float32] = opened.image(part)[0].permute(1, 2, 0).numpy(force=True)
        return shown

    integral.total.deliver()
    return Attribution(integral.total, box, record, image, picture, overview)


def _holds(choices: str | None, method: Method, model: RestorationModel) -> bool:
    """Whether the model's choices are held; raises `BadParameter`."""
    chooses = model.choice_bytes > 0
    if choices not in (None, HELD, FREE):
        raise BadParameter(f"Choices cannot be {choices!r}.", f"Write {HELD} or {FREE}.")
    if choices is not None and not chooses:
        raise BadParameter(
            f"{model.card.id} makes no choices that could be held.", "Leave --choices out."
        )
    return chooses and (choices or method.choices) == HELD


def _rules(steps: str | int, rule: str) -> list[Quadrature]:
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
    facts: str,
    options: Mapping[str, Any],
) -> None:
    """Refuse what is unknown, or would have no effect. Raises `BadParameter`."""
    if facts not in (AUTO, HELD, FOLLOWED):
        raise BadParameter(f"Facts cannot be {facts!r}.", f"Write {AUTO}, {HELD} or {FOLLOWED}.")
    if arguments and chosen.explainer is None:
        raise BadParameter(
            f"Method {chosen.name} takes no --argument.",
            "It has --steps, --rule, --gap and --baseline.",
        )
    _curves.check_name(check)
    if check is not None and facts == FOLLOWED:
        raise BadParameter(
            "The check holds the facts of the whole image.", "Leave --facts followed out."
        )
    for name in options:
        if name not in TAKEN:
            raise BadParameter(
                f"Attribution takes no option {name}.", f"It takes {', '.join(TAKEN)}."
            )


def _seen_by(objective: str, box: Region, image: Image) -> Region:
    """The box and what an objective looks at beyond it."""
    beyond = OBJECTIVES[objective].beyond if objective in OBJECTIVES else 0
    wide = Region(box.y0, box.x0, box.y1 + beyond, box.x1 + beyond)
    return wide.intersect(Region(0, 0, image.height, image.width))


def _box_of(box: Region | None, polygon: Polygon | None) -> Region:
    """What is asked about, one of both; raises `BadParameter`."""
    if box is not None and polygon is None:
        return Region(*box)
    if box is None and polygon is not None:
        return polygon.box
    raise BadParameter("A question is about a box or a polygon.", "Give one of both.")


def _box_within(box: Region, image: Image) -> Region:
    inside = box.intersect(Region(0, 0, image.height, image.width))
    if inside.is_empty:
        raise BadRegion(
            f"The box lies outside of {image.name}, which has {image.width} × {image.height} pixels.",
            "Give a box within it.",
        )
    return inside


def _clear_image(
    name: str, opened: Opened, box: Region, options: Mapping[str, Any]
) -> Opened | None:
    """The clear image that a baseline names, read as the image itself is."""
    if name in NAMES or not name or not File(name).exists():
        return None
    image, plan = open_image(name), opened.plan
    if (image.height, image.width) != opened.size:
        raise BadParameter(
            f"{image.name} has {image.width} × {image.height} pixels, the image "
            f"{opened.size[1]} × {opened.size[0]}.",
            "Name a clear image of the same size.",
        )
    given = {name: options[name] for name in ("memory", "device", "scratch") if name in options}
    if image.dtype == plan.image.dtype:
        # One value means one light in both, also where the range follows from the values.
        given |= opened.range
    own = make_plan(image, load("identity"), region=box, **given)
    return Opened(own, lambda event: None, opened.stop)
