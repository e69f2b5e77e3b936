"""The methods of an evaluation: unchanged input, classical methods, and requested models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_restore.errors import BadParameter
from napari_restore.models import Named, RestorationModel, label_of, load, load_named
from napari_restore.questions import Degradation
from napari_restore.training.score._classical import CLASSICAL, Filter, check_installed

Kind = Literal["input", "classical", "model"]

INPUT = "input"
"""Label of the unchanged input."""
BASELINES: Mapping[Degradation, tuple[tuple[str, dict[str, Any]], ...]] = {
    "haze": (("dcp", {"omega": 0.95}), ("dcp", {"omega": 0.85}), ("hot", {})),
    "noise": (),
    "lowlight": (),
    "bracket": (("mertens", {}),),
}
"""Classical models of every evaluation; for other methods see `CLASSICAL`."""


@dataclass(frozen=True)
class Method:
    """A model with its parameters, and a unique label."""

    label: str
    kind: Kind
    model: RestorationModel = field(repr=False, compare=False)
    filter: Filter | None = field(default=None, repr=False, compare=False)
    """Applied to the whole output of the model, which is then the unchanged input."""


def methods_of(
    models: Sequence[str | RestorationModel],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    baselines: bool = True,
    trust: bool = False,
    degradation: Degradation = "haze",
) -> list[Method]:
    """Return the input, the classical methods if requested, and `models`, in this order.

    Models are names as for `load_named`, or loaded already. `weights` are for a single model,
    `parameters` for every one, overridden by those in its name. Raises `BadParameter`, and as
    `load`.
    """
    named = load_named(models, weights=weights, parameters=parameters, trust=trust, taken=(INPUT,))
    requested = [Method(label, "model", model) for label, model in named]
    for method in requested:
        if method.model.card.light:
            raise BadParameter(
                f"Model {method.model.card.id} gives light, which no clear picture shows.",
                "Leave it out.",
            )
    methods = [Method(INPUT, "input", load("identity"))]
    taken = {method.label for method in requested}
    if not baselines:
        return methods + requested
    check_installed(degradation)
    for name, function in CLASSICAL[degradation].items():
        methods.append(Method(name, "classical", load("identity"), function))
    for name, values in BASELINES[degradation]:
        label = label_of(Named(name, values))
        if label not in taken:
            methods.append(Method(label, "classical", load(name, parameters=values)))
    return methods + requested
