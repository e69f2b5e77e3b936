"""What is compared: the untouched input, the classical methods, and the models asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_restore.models import Named, RestorationModel, label_of, load, load_named

Kind = Literal["input", "classical", "model"]

INPUT = "input"
"""Label of the untouched input."""
BASELINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dcp", {"omega": 0.95}),
    ("dcp", {"omega": 0.85}),
    ("hot", {}),
)
"""The classical methods that stand beside every evaluation."""


@dataclass(frozen=True)
class Method:
    """A model with its parameters, under a name that tells it from the others."""

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
    """The input, `BASELINES` unless they are not wanted, and `models`, in this order.

    Models are named as `named` takes them, or loaded already. `weights` are those of
    the one model, `parameters` go to every one, under what its own name says. Raises
    `BadParameter` and what `load` raises.
    """
    named = load_named(models, weights=weights, parameters=parameters, trust=trust, taken=(INPUT,))
    asked = [Method(label, "model", model) for label, model in named]
    methods = [Method(INPUT, "input", load("identity"))]
    taken = {method.label for method in asked}
    for name, values in BASELINES if baselines else ():
        label = label_of(Named(name, values))
        if label not in taken:
            methods.append(Method(label, "classical", load(name, parameters=values)))
    return methods + asked
