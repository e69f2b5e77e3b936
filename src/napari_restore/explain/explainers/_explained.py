"""A map by a method that goes along no path, checked before it is believed to be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from napari_restore.errors import BadParameter, RestoreError
from napari_restore.explain.explainers._problem import Explainer, Problem
from napari_restore.explain.sums._accumulator import Node
from napari_restore.explain.sums._sums import Summed, Sums


@dataclass(frozen=True)
class Explained:
    """A map without a path; where its method is not complete, nothing it should add up to."""

    total: Summed = field(repr=False)
    sum: float | None
    """What all shares add up to …"""
    difference: float | None
    """… and D(x) − D(x′): what they should."""
    goal: float | None
    overview: None = None
    rule: None = None
    recomputed_difference: None = None
    nodes: tuple[Node, ...] = ()
    through_context: float | None = None

    @property
    def gap(self) -> float | None:
        """|sum − difference| / |difference|."""
        if self.sum is None or not self.difference:
            return None
        return abs(self.sum - self.difference) / abs(self.difference)

    @property
    def is_complete(self) -> bool | None:
        """Whether the gap is as small as it was to be; None where there is none."""
        return None if self.gap is None or self.goal is None else self.gap <= self.goal


def explained(
    explainer: Explainer,
    name: str,
    asked: Problem,
    arguments: Mapping[str, Any],
    sums: Sums,
    goal: float,
) -> Explained:
    """The map of `explainer`, which the user calls `name`; raises `BadParameter` if it is none."""
    try:
        found: Any = explainer.function(asked, **arguments)
    except RestoreError:
        raise
    except Exception as error:
        if not explainer.package:
            raise
        said = f"{type(error).__name__}: {error}".rstrip(": .")
        raise BadParameter(
            f"Method {name} failed: {said}.",
            "Look at its --argument values, and its documentation.",
        ) from error
    if not isinstance(found, Tensor) or found.shape != asked.image.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise BadParameter(
            f"Method {name} gave no map of the image: {shape}.",
            f"It must give a tensor of {tuple(asked.image.shape)}.",
        )
    found = found.detach().to(asked.image.device)
    if asked.valid is not None:
        found = found * asked.valid
    if not bool(found.isfinite().all()):
        raise BadParameter(
            f"The map of method {name} is not finite.", "Choose other --argument values."
        )
    sums.add([1.0], asked.region, found)
    if not explainer.is_complete:
        return Explained(sums.of(0), None, None, None)
    with torch.no_grad():
        ends = asked.objective(torch.cat([asked.baseline, asked.image])).tolist()
    total = float(found.sum(dtype=torch.float64))
    return Explained(sums.of(0), total, ends[1] - ends[0], goal)


def version_of(package: str) -> str:
    """The version of a distribution, as far as it has one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
