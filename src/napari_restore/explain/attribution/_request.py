"""The request of an attribution: its method, target and settings, checked and complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, BadRegion, option
from napari_restore.explain.attribution import curves
from napari_restore.explain.attribution.baselines import OF_BRACKETS, REFERENCE
from napari_restore.explain.attribution.methods import (
    Method,
    check_request,
    default_method,
    method_of,
)
from napari_restore.explain.attribution.objectives import OBJECTIVES
from napari_restore.explain.attribution.quadrature import NESTED, Quadrature, clenshaw_curtis, fixed
from napari_restore.explain.attribution.target import AttributionTarget, OutputBox, polygon_of
from napari_restore.images import Image
from napari_restore.models import OnOutputGrid, RestorationModel, on_output_grid
from napari_restore.questions import AUTO, FIXED, THROUGH, Attribute


@dataclass(frozen=True)
class CheckedAttribution:
    """What is attributed, and how."""

    settings: Attribute
    """As the user gave them."""
    method: Method
    target: AttributionTarget
    rules: tuple[Quadrature, ...]
    """Quadrature rules to try in turn."""
    fixed_routing: bool
    """Whether the routing of the whole path is that of its end."""
    arguments: Mapping[str, Any]
    """Arguments of a method that is not a path integral, with its defaults."""
    has_context_file: bool
    """Whether the context is read from a file, and may be of other images."""

    @property
    def objective(self) -> str:
        """Name of the objective."""
        return self.settings.objective or self.method.objective

    @property
    def baseline(self) -> str:
        """Start of a straight path: a name of `NAMES` or a file; empty where one must be named."""
        given = self.settings.baseline
        return self.method.baseline if given is None else given

    @property
    def points(self) -> int | None:
        """Points of the path; None where as many as needed."""
        return None if len(self.rules) > 1 else len(self.rules[0].nodes)

    @property
    def value_bytes(self) -> int | None:
        """Memory per value for methods that need the whole map in memory; None for others."""
        check = None if self.settings.check is None else curves.VALUE_BYTES
        if self.method.explainer is None:
            return check
        return self.method.explainer.bytes(self.arguments) + (check or 0)

    def to_dict(self, *, clear_image: bool, context_gradient: str) -> dict[str, Any]:
        """Return the request as JSON, for a rerun; `clear_image` is whether the baseline is a file."""
        # The `context_gradient` is that which was used: a rerun must not depend on the memory
        # budget.
        polygon, method = self.target.polygon, self.method
        baseline = str(Path(self.baseline).resolve()) if clear_image else self.baseline
        steps = method.steps if method.explainer is None else None
        segments = self.settings.segments
        if segments is not None and Path(segments).exists():
            segments = str(Path(segments).absolute())
        return {
            "box": list(self.target.result_box) if polygon is None else None,
            "polygon": None if polygon is None else polygon.to_list(),
            **vars(self.settings),
            "method": method.name,
            "objective": self.objective,
            "baseline": baseline if method.takes_baseline else None,
            "steps": steps if self.settings.steps is None else self.settings.steps,
            "context_gradient": context_gradient,
            "segments": segments,
            "arguments": self.arguments,
        }


def request_of(
    image: Image,
    model: RestorationModel,
    box: Region | None,
    polygon: Sequence[Sequence[float]] | None,
    settings: Attribute,
    options: Mapping[str, Any],
) -> CheckedAttribution:
    """Return the request with the method's defaults; raises `BadParameter`, `BadRegion`."""
    name = settings.method or default_method(settings)
    method, arguments = method_of(name, model.card), dict(settings.arguments or {})
    if settings.check is not None and method.explainer is not None:
        # The check needs a baseline even where the method itself has none.
        method = replace(method, path="straight")
    check_request(method, settings)
    if settings.check is not None and settings.context_gradient == THROUGH:
        raise BadParameter(
            "The check takes the context as a constant.",
            f"Leave {option('context_gradient', 'through')} out.",
        )
    if settings.routing is not None and not model.routes:
        raise BadParameter(
            f"{model.card.id} has no routing that could be fixed.",
            f"Leave {option('routing')} out.",
        )
    if method.explainer is not None:
        explainer = method.explainer
        explainer = explainer if settings.segments is None else explainer.of_segments()
        arguments = explainer.arguments(method.name, arguments)
    return CheckedAttribution(
        settings,
        method,
        target_of(image, box, polygon, settings.objective or method.objective, model),
        _rules(
            method.steps if settings.steps is None else settings.steps,
            settings.rule or method.rule,
        ),
        model.routes and (settings.routing or method.routing) == FIXED,
        arguments,
        options.get("context") is not None,
    )


def _rules(steps: str | int, rule: str) -> tuple[Quadrature, ...]:
    """Return the quadrature rules to try in turn; raises `BadParameter`."""
    if steps == AUTO:
        return tuple(clenshaw_curtis(count) for count in NESTED)
    try:
        return (fixed(rule, int(steps)),)
    except ValueError:
        raise BadParameter(
            f"{steps!r} is no number of steps.", "Write auto or a number such as 16."
        ) from None


def check_bracket(image: Image, request: CheckedAttribution) -> None:
    """Raise `BadParameter` for a path that a bracket does not have, or only a bracket has."""
    method, name = request.method, request.baseline
    if image.companions is None:
        if method.takes_baseline and name == REFERENCE:
            raise BadParameter(
                f"{image.name} is one image, which has no reference frame.",
                f"Choose {option('baseline', 'blur', 'zero')}.",
            )
        return
    if method.path not in ("", "straight", "blur"):
        raise BadParameter(
            f"Method {method.name} has no path for the frames of a bracket.",
            f"Choose {option('method', 'ig')}.",
        )
    if method.path == "straight" and name not in OF_BRACKETS:
        raise BadParameter(
            "A path of a bracket does not begin at one image.",
            f"Choose {option('baseline', *OF_BRACKETS)}.",
        )


def target_of(
    image: Image,
    box: Region | None,
    polygon: Sequence[Sequence[float]] | None,
    objective: str,
    model: RestorationModel,
) -> AttributionTarget:
    """Return the target within results of `model`; raises `BadParameter`, `BadRegion`."""
    shape = None if polygon is None else polygon_of(polygon)
    # Results may have another size than the image.
    full, ratio, grid = (image.height, image.width), model.card.ratio, on_output_grid(model)
    size = grid.size_of(full) if isinstance(grid, OnOutputGrid) else full
    whole = Region(0, 0, *size)
    if box is not None and shape is None:
        asked = Region(*box)
        if asked.is_empty:
            size_text = f"{asked.width} × {asked.height}"
            raise BadRegion(f"The box is {size_text} pixels.", "Give it a width and a height.")
        inside = asked.intersect(whole)
    elif box is None and shape is not None:
        inside = shape.box.intersect(whole)
    else:
        raise BadParameter("An attribution target is a box or a polygon.", "Give one of the two.")
    if inside.is_empty:
        what = image.name if ratio == 1 else f"the result of {image.name}"
        raise BadRegion(
            f"The box lies outside of {what}, which has {whole.width} × {whole.height} pixels.",
            "Give a box within it.",
        )
    beyond = OBJECTIVES[objective].beyond if objective in OBJECTIVES else 0
    wide = Region(inside.y0, inside.x0, inside.y1 + beyond, inside.x1 + beyond)
    wide = wide.intersect(whole)
    if ratio == 1:
        return AttributionTarget(inside, wide, shape)
    output = OutputBox(inside, wide, ratio)
    box, region = (each.scale(1 / ratio).intersect(Region(0, 0, *full)) for each in (inside, wide))
    return AttributionTarget(box, region, shape, output)
