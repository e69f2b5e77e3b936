"""The methods of an evaluation: unchanged input, classical methods, and requested models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_restore.models import Named, RestorationModel, label_of, load, load_named

Kind = Literal["input", "classical", "model"]

INPUT = "input"
"""Label of the unchanged input."""
BASELINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dcp", {"omega": 0.95}),
    ("dcp", {"omega": 0.85}),
    ("hot", {}),
)
"""Classical methods of every evaluation."""


@dataclass(frozen=True)
class Method:
    """A model with its parameters, and a unique label."""

    label: str
    kind: Kind
    model: RestorationModel = field(repr=False, compare=False)


def methods_of(
    models: Sequence[str | RestorationModel],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    baselines: bool = True,
    trust: bool = False,
) -> list[Method]:
    """Return the input, `BASELINES` if requested, and `models`, in this order.

    Models are names as for `load_named`, or loaded already. `weights` are for a single model,
    `parameters` for every one, overridden by those in its name. Raises `BadParameter`, and as
    `load`.
    """
    named = load_named(models, weights=weights, parameters=parameters, trust=trust, taken=(INPUT,))
    requested = [Method(label, "model", model) for label, model in named]
    methods = [Method(INPUT, "input", load("identity"))]
    taken = {method.label for method in requested}
    for name, values in BASELINES if baselines else ():
        label = label_of(Named(name, values))
        if label not in taken:
            methods.append(Method(label, "classical", load(name, parameters=values)))
    return methods + requested
