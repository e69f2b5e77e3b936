"""Several models by their names, with labels that distinguish them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from napari_restore.errors import BadParameter, option
from napari_restore.models._load import load
from napari_restore.models._model import RestorationModel

_PARAMETERS = re.compile(r"(?P<model>.+?)(?::(?P<given>\w+=[^,]*(?:,\w+=[^,]*)*))?")


@dataclass(frozen=True)
class Named:
    """A model as the user names it."""

    model: str
    parameters: dict[str, str] = field(default_factory=dict)
    weights: str | None = None


class Labelled(NamedTuple):
    """A model and its label among others."""

    label: str
    model: RestorationModel


def named(text: str) -> Named:
    """Parse ``ID``, ``ID:omega=0.9,t0=0.2`` or ``ID:weights=FILE``, also after FILE.py:factory."""
    match = _PARAMETERS.fullmatch(text)
    if match is None:
        raise BadParameter("A model has no name.", "Name one of: napari-restore models.")
    given = dict(part.split("=", 1) for part in filter(None, (match["given"] or "").split(",")))
    weights = given.pop("weights", None)
    return Named(match["model"], given, weights)


def load_named(
    models: Sequence[str | nn.Module],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    taken: Sequence[str] = (),
) -> list[Labelled]:
    """Return `models`, as `named` parses them or loaded already, in this order.

    `weights` are for a single model; `parameters` are for every one, and those in its own name
    override them. The second of a label, those `taken` included, gets the suffix ``(2)``. Raises
    `BadParameter` and what `load` raises.
    """
    if weights is not None and len(models) != 1:
        raise BadParameter(
            f"Weights for {len(models)} models: it is not clear whose they are.",
            f"Name them with each: {option('models', ['ID:weights=FILE'])}.",
        )
    counts, labelled = Counter(taken), []
    for model in models:
        if isinstance(model, str):
            parsed = named(model)
            values = {**(parameters or {}), **parsed.parameters}
            parsed = Named(parsed.model, values, parsed.weights or weights)
            label, own = label_of(parsed), parsed.weights
            ready = load(parsed.model, weights=own, parameters=values, trust=trust)
        else:
            ready = load(model)
            label = ready.card.id
        counts[label] += 1
        apart = label if counts[label] == 1 else f"{label} ({counts[label]})"
        labelled.append(Labelled(apart, ready))
    return labelled


def label_of(parsed: Named) -> str:
    """Return the name without folders."""
    script, colon, factory = parsed.model.rpartition(":")
    if colon and script.lower().endswith(".py"):
        name = f"{Path(script).name}:{factory}"
    else:
        # The file of a model is known by its stem; ids have no suffix.
        path = Path(parsed.model)
        suffixes = (".safetensors", ".pth", ".pt", ".pt2", ".onnx")
        name = path.stem if path.suffix in suffixes else path.name
    parts = [f"{key}={value}" for key, value in parsed.parameters.items()]
    if parsed.weights is not None:
        weights = parsed.weights
        parts.insert(0, weights if weights.startswith("random:") else Path(weights).stem)
    return ":".join(filter(None, (name, ",".join(parts))))
