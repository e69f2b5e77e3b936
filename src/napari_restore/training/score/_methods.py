"""What is compared: the untouched input, the classical methods, and the models asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_restore.errors import BadParameter
from napari_restore.models import RestorationModel, load

Kind = Literal["input", "classical", "model"]

INPUT = "input"
"""Label of the untouched input."""
BASELINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dcp", {"omega": 0.95}),
    ("dcp", {"omega": 0.85}),
    ("hot", {}),
)
"""The classical methods that stand beside every evaluation."""

_PARAMETERS = re.compile(r"(?P<model>.+?)(?::(?P<given>\w+=[^,]*(?:,\w+=[^,]*)*))?")


@dataclass(frozen=True)
class Method:
    """A model with its parameters, under a name that tells it from the others."""

    label: str
    kind: Kind
    model: RestorationModel = field(repr=False, compare=False)


@dataclass(frozen=True)
class Named:
    """A model as somebody names it."""

    model: str
    parameters: dict[str, str] = field(default_factory=dict)
    weights: str | None = None


def named(text: str) -> Named:
    """``ID``, ``ID:omega=0.9,t0=0.2`` or ``ID:weights=FILE``, also after FILE.py:factory."""
    found = _PARAMETERS.fullmatch(text)
    if found is None:
        raise BadParameter("A model has no name.", "Name one of: napari-restore models.")
    given = dict(part.split("=", 1) for part in filter(None, (found["given"] or "").split(",")))
    weights = given.pop("weights", None)
    return Named(found["model"], given, weights)


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
    if weights is not None and len(models) != 1:
        raise BadParameter(
            f"Weights for {len(models)} models: it is not clear whose they are.",
            "Name them with each: --model ID:weights=FILE.",
        )
    methods = [Method(INPUT, "input", load("identity"))]
    asked = []
    for model in models:
        if isinstance(model, RestorationModel):
            asked.append(Method(model.card.id, "model", model))
            continue
        told = named(model)
        loaded = load(
            told.model,
            weights=told.weights or weights,
            parameters={**(parameters or {}), **told.parameters},
            trust=trust,
        )
        label = _label(told, told.weights or weights, {**(parameters or {}), **told.parameters})
        asked.append(Method(label, "model", loaded))
    asked = _told_apart(asked)
    taken = {method.label for method in asked}
    for name, values in BASELINES if baselines else ():
        label = _label(Named(name), None, values)
        if label not in taken:
            methods.append(Method(label, "classical", load(name, parameters=values)))
    return methods + asked


def _label(told: Named, weights: str | None, parameters: Mapping[str, Any]) -> str:
    """As it is named, without folders."""
    script, colon, factory = told.model.rpartition(":")
    if colon and script.lower().endswith(".py"):
        name = f"{Path(script).name}:{factory}"
    else:
        # The file of a model is known by its stem; ids have no suffix.
        path = Path(told.model)
        name = path.stem if path.suffix in (".safetensors", ".pth", ".pt", ".pt2") else path.name
    parts = [f"{key}={value}" for key, value in parameters.items()]
    if weights is not None:
        parts.insert(0, weights if weights.startswith("random:") else Path(weights).stem)
    return ":".join(filter(None, (name, ",".join(parts))))


def _told_apart(methods: Sequence[Method]) -> list[Method]:
    seen: Counter[str] = Counter({INPUT: 1})
    apart = []
    for method in methods:
        seen[method.label] += 1
        number = seen[method.label]
        label = method.label if number == 1 else f"{method.label} ({number})"
        apart.append(Method(label, method.kind, method.model))
    return apart
