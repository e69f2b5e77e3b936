"""Runs a method that is not a path integral, and validates its map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from napari_restore.errors import BadParameter, RestoreError, option
from napari_restore.explain.attribution._accumulator import Node
from napari_restore.explain.attribution._problem import Explainer, Problem
from napari_restore.explain.attribution._sums import Summed, Sums


@dataclass(frozen=True)
class ExplainerMap:
    """Map of a method without a path; `difference` is None where the method claims no completeness."""

    total: Summed = field(repr=False)
    sum: float | None
    """Sum of all shares."""
    difference: float | None
    """D(x) − D(x′), which the shares should sum to."""
    goal: float | None
    overview: None = None
    rule: None = None
    recomputed_difference: None = None
    nodes: tuple[Node, ...] = ()
    through_context: float | None = None
    path_difference: float | None = None
    """D(x) − D(x′) where the context is known to change along the path, whatever the method claims."""

    @property
    def gap(self) -> float | None:
        """|sum − difference| / |difference|."""
        if self.sum is None or not self.difference:
            return None
        return abs(self.sum - self.difference) / abs(self.difference)

    @property
    def is_complete(self) -> bool | None:
        """Whether the gap is at most `goal`; None without a gap."""
        return None if self.gap is None or self.goal is None else self.gap <= self.goal


def run_explainer(
    explainer: Explainer,
    name: str,
    problem: Problem,
    arguments: Mapping[str, Any],
    sums: Sums,
    goal: float,
) -> ExplainerMap:
    """Return the map of `explainer`, known to the user as `name`; raises `BadParameter` if invalid."""
    try:
        shares: Any = explainer.function(problem, **arguments)
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
    if not isinstance(shares, Tensor) or shares.shape != problem.image.shape:
        shape = tuple(shares.shape) if isinstance(shares, Tensor) else type(shares).__name__
        raise BadParameter(
            f"Method {name} gave no map of the image: {shape}.",
            f"It must give a tensor of {tuple(problem.image.shape)}.",
        )
    shares = shares.detach().to(problem.image.device)
    if problem.valid is not None:
        shares = shares * problem.valid
    if lost := int((~shares.isfinite()).sum()):
        raise BadParameter(
            f"{lost} of {shares.numel()} values of the map of method {name} are not finite.",
            f"Choose other {option('arguments')} values, or another {option('baseline')}.",
        )
    sums.add([1.0], problem.region, shares)
    if not explainer.is_complete:
        return ExplainerMap(sums.of(0), None, None, None)
    with torch.no_grad():
        ends = problem.objective(torch.cat([problem.baseline, problem.image])).tolist()
    total = float(shares.sum(dtype=torch.float64))
    return ExplainerMap(sums.of(0), total, ends[1] - ends[0], goal)


def version_of(package: str) -> str:
    """Return the version of a distribution, ``"unknown"`` if it is not installed as one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
