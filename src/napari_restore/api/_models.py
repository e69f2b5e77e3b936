"""Models by id, file or module, and their cards."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.api._images import Pathlike, open_image

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.models import Labelled, ModelCard, Proposal, RestorationModel


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


def load_models(
    models: Sequence[Any],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[Labelled]:
    """Load models as `evaluate` names them, "dcp:omega=0.9" for instance: `.label`, `.model`.

    `weights` are those of the one model, `parameters` go to every one.
    """
    from napari_restore.models import load_named

    return load_named(models, weights=weights, parameters=parameters, trust=trust)


def stamp_of(*names: str | None) -> tuple[Any, ...]:
    """Size and time of files, and of the cards beside them: other after a change.

    Names as `load_model` takes them; what is no file has none.
    """
    stamps: list[tuple[int, int] | None] = []
    for name in filter(None, names):
        script, colon, _ = name.rpartition(":")
        path = Path(script if colon and script.endswith(".py") else name)
        for file in (path, path.with_suffix(".json")):
            try:
                found = file.stat()
            except (OSError, ValueError):
                stamps.append(None)
            else:
                stamps.append((found.st_size, found.st_mtime_ns))
    return tuple(stamps)


def models() -> tuple[ModelCard, ...]:
    """The cards of all known models."""
    from napari_restore.models import card_of, model_ids

    return tuple(card_of(name) for name in model_ids())


def tile_invariance(model: Any) -> str:
    """What the bits of a model's pixels do not depend on, as measured on this machine.

    `model` is a name, a path or a model. "any tiles, any threads": a run's result is the
    same however it is cut; else plans keep what it does depend on fixed. The first time it is
    measured on made-up tiles, later it is read from the cache folder.
    """
    from napari_restore.engine import describe_tile_invariance

    return describe_tile_invariance(load_model(model))


def is_ready(model_id: str) -> bool:
    """Whether a known model runs as it is: it needs no weights, or they come with it."""
    from napari_restore.models import is_ready

    return is_ready(model_id)


def inspect_model(path: Pathlike, *, trust: bool = False) -> Proposal:
    """Find out what a model file is, and propose the card it lacks.

    `path` is a .safetensors, .pth, .pt or .ckpt file of weights, an exported .pt2
    program or ``"FILE.py:factory"``. The model is run on made-up tiles: not for the
    thread of a window. Programs and Python run only with `trust`. Raises
    `MissingWeights`, `BadModel`.
    """
    from napari_restore.engine import probe
    from napari_restore.models import propose

    proposal = propose(path, trust=trust)
    found = probe(proposal.model)
    if not proposal.measured:
        return proposal
    proposal.model.card = replace(proposal.model.card, halo=found.halo)
    return replace(proposal, card={**proposal.card, "halo": found.halo})


def save_card(proposal: Proposal, **fields: Any) -> Path:
    """Write the card of `inspect_model`, with `fields` over it, beside the model's file.

    Returns its path, NAME.json, where `load_model` looks. Raises `BadModel` for
    fields a card does not have and `BadOutput`.
    """
    from napari_restore.models import write_card

    return write_card(proposal, fields)


def missing_roles(image: Any, card: ModelCard) -> tuple[str, ...]:
    """The band roles that `open_image(bands=...)` must name before `card` runs on `image`.

    Raises `UnknownBands` where that cannot help.
    """
    from napari_restore.engine import missing_roles

    return missing_roles(open_image(image), card)
