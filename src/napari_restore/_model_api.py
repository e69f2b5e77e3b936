"""The part of `api` that makes a model of what a caller names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.models import ModelCard, RestorationModel


def load_model(
    model: str | os.PathLike[str] | nn.Module,
    *,
    weights: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    card: ModelCard | Mapping[str, Any] | None = None,
    trust: bool = False,
) -> RestorationModel:
    """Load a model by id, by ``"FILE.py:factory"``, by weights file, or wrap a module.

    Parameters
    ----------
    model
        An id of ``napari-restore models``; ``"FILE.py:factory"``; a weights file with its card
        beside it; an exported .pt2 program; or a `torch.nn.Module` that takes and gives
        (N, C, H, W) float32 in [0, 1].
    weights
        A .safetensors or .pth file, or ``"random:SEED"``; by default those that come with the
        model, or that the module has.
    parameters
        Values over the defaults of the model's card.
    card
        Fields of a `ModelCard`, such as ``{"bands": 3, "multiple_of": 8}``. A module or a factory
        without one is tried out: bands and `multiple_of`, and the halo on its weights.
    trust
        Whether Python code and programs in files may run.

    Returns
    -------
    RestorationModel
        A `torch.nn.Module` in evaluation mode with a ``.card``.
    """
    from napari_restore.models import load

    loaded = load(model, weights=weights, parameters=parameters, card=card, trust=trust)
    if loaded.measured:
        from napari_restore.engine import probe

        # Its card tells the halo from then on.
        probe(loaded)
    return loaded


def load_described(spec: Mapping[str, Any], *, trust: bool = False) -> RestorationModel:
    """Load the model that a `RestorationModel.spec` describes.

    A description may come from a file: code runs only with `trust`, whatever the file says.
    Raises as `load_model`.
    """
    return load_model(
        str(spec["model"]),
        weights=spec.get("weights"),
        parameters=spec.get("parameters"),
        card=spec.get("card"),
        trust=trust,
    )


def code_file(model: str) -> str | None:
    """The file whose code runs when the model of that name is loaded: of Python, or a .pt2; or None."""
    script, _, _ = model.rpartition(":")
    if script.lower().endswith(".py"):
        return script
    return model if model.lower().endswith(".pt2") else None


def as_model(model: str | os.PathLike[str] | nn.Module) -> RestorationModel:
    """`model` if it is loaded already, else what `load_model` makes of it."""
    return model if hasattr(model, "card") else load_model(model)  # type: ignore[return-value]


def model_factories(path: str | os.PathLike[str]) -> list[str]:
    """Functions and classes of a Python file that may make a model, without running it.

    The usual names (``make``, ``build`` …) come first. Raises `BadModel`.
    """
    from napari_restore.models import factories_in

    return factories_in(Path(path))
