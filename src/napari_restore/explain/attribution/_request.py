"""The request of an attribution: its method, target and settings, checked and complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_restore.explain.attribution import curves
from napari_restore.explain.attribution.methods import Method
from napari_restore.explain.attribution.quadrature import Quadrature
from napari_restore.explain.attribution.target import AttributionTarget
from napari_restore.questions import Attribute


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
        """Return the request as JSON, for a rerun.

        `clear_image` is whether the baseline is a file. `context_gradient` is the setting that was
        used: a rerun must not depend on the memory budget.
        """
        polygon, method = self.target.polygon, self.method
        output = self.target.output
        box = self.target.box if output is None else output.box
        baseline = str(Path(self.baseline).resolve()) if clear_image else self.baseline
        steps = method.steps if method.explainer is None else None
        segments = self.settings.segments
        if segments is not None and Path(segments).exists():
            segments = str(Path(segments).absolute())
        return {
            "box": list(box) if polygon is None else None,
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
