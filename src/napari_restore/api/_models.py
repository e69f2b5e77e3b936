"""Models by id, file or module, and their cards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore import engine
from napari_restore._confined import room_for
from napari_restore._heap import collection_paused
from napari_restore.api._images import Pathlike, open_image

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.models import Labelled, ModelCard, Proposal, RestorationModel


def load_model(
    model: str | os.PathLike[str] | nn.Module,
    *,
    weights: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    card: ModelCard | Mapping[str, Any] | None = None,
    trust: bool = False,
    memory: int | str | None = None,
    emit: Callable[[Event], None] | None = None,
) -> RestorationModel:
    """Load a model by id, by ``"FILE.py:factory"``, by weights file, or wrap a module.

    Parameters
    ----------
    model
        An id of ``napari-restore models``; ``"FILE.py:factory"``; a weights file, or a folder with one, whose
        network is known by its tensors or named on the card beside it; an exported .pt2 program,
        TorchScript or an .onnx model; or a `torch.nn.Module` from and to
        (N, C, H, W) float32 in [0, 1]. A module is copied with its present weights, and stays as it
        is; so is a loaded model in training.
    weights
        A .safetensors or .pth file, or ``"random:SEED"``; by default those shipped with the
        model, or those of the module.
    parameters
        Values over the defaults of the model's card.
    card
        Fields of a `ModelCard`, such as ``{"bands": 3, "multiple_of": 8}``, over those beside the file.
        A module or a factory without one, or with one that says only what it takes and gives, is
        probed: bands and `multiple_of`, and the halo from its weights.
    trust
        Whether Python code and programs in files may run.
    memory
        Bytes that measuring a model without a card may take, or text like ``"2GiB"``.
    emit
        Called with the events of that measurement, which may take seconds.

    Returns
    -------
    RestorationModel
        A `torch.nn.Module` in evaluation mode with a ``.card``.
    """
    _keep_sizes()
    from napari_restore.models import load

    with nullcontext() if memory is None else room_for(engine.budget_of(memory)):
        loaded = load(model, weights=weights, parameters=parameters, card=card, trust=trust)
    if loaded.measured:
        _measure(loaded, memory, emit)
    return loaded


def _keep_sizes() -> None:
    """Let models keep the sizes that they measure where plans keep what they measure."""
    with collection_paused():
        # The first time, this imports torch.
        from napari_restore.models import keep_sizes
    keep_sizes(engine.kept_sizes)


def _measure(
    model: RestorationModel, memory: int | str | None, emit: Callable[[Event], None] | None
) -> str:
    """Measure what a model without a card needs, store it in its card, and check others.

    Returns why it must be given the whole image, at least one whose sides are no multiples; else "".
    """
    show = emit or (lambda event: None)
    show(engine.Phase("Seconds of measuring the model"))
    found = engine.probe(
        model, memory, progress=lambda done, most: show(engine.Progress(done, most))
    )
    return found.why_whole(1, 1)


def load_described(spec: Mapping[str, Any], *, trust: bool = False) -> RestorationModel:
    """Load the model that a `RestorationModel.spec` describes.

    A description may come from a file: code runs only with `trust`, whatever the file says. A model
    without a card is measured by the plan. Raises as `load_model`.
    """
    _keep_sizes()
    from napari_restore.models import load

    model = load(
        str(spec["model"]),
        weights=spec.get("weights"),
        parameters=spec.get("parameters"),
        card=spec.get("card"),
        trust=trust,
    )
    for site, head in spec.get("without_heads", ()):
        model = model.without_head(str(site), int(head))
    return model


def code_file(model: str) -> str | None:
    """Return the file whose code runs when the model is loaded: Python, .pt2 or TorchScript.

    None where there is none.
    """
    from napari_restore.models import is_script

    script, _, _ = model.rpartition(":")
    if script.lower().endswith(".py"):
        return script
    return model if model.lower().endswith(".pt2") or is_script(Path(model)) else None


def as_model(model: str | os.PathLike[str] | nn.Module) -> RestorationModel:
    """Return `model` if it is loaded and not in training, else load it; a plan measures it."""
    _keep_sizes()
    from napari_restore.models import load

    return load(model)


def load_models(
    models: Sequence[Any],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    memory: int | str | None = None,
    emit: Callable[[Event], None] | None = None,
) -> list[Labelled]:
    """Load models as `evaluate` names them, "dcp:omega=0.9" for instance: `.label`, `.model`.

    `weights` are for a single model, `parameters` for every one. With `emit` those without a card are
    measured, as `load_model` does in `memory`; else a plan measures them.
    """
    _keep_sizes()
    from napari_restore.models import load_named

    loaded = load_named(models, weights=weights, parameters=parameters, trust=trust)
    for each in loaded:
        if each.model.measured and emit is not None:
            _measure(each.model, memory, emit)
    return loaded


def stamp_of(*names: str | None) -> tuple[Any, ...]:
    """Return size and modification time of files and of the cards beside them, to detect changes.

    Names are as for `load_model`; None for those that are no files. Of Python files those count
    that they import, too.
    """
    from napari_restore.models import code_files

    stamps: list[tuple[int, int] | None] = []
    for name in filter(None, names):
        script, colon, _ = name.rpartition(":")
        path = Path(script if colon and script.endswith(".py") else name)
        others = code_files(path) if path.suffix == ".py" and path.is_file() else ()
        for file in (path, path.with_suffix(".json"), *others):
            try:
                status = file.stat()
            except (OSError, ValueError):
                stamps.append(None)
            else:
                stamps.append((status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def model_digest(model: RestorationModel) -> str:
    """Return a digest of all that decides what a loaded model computes, and of this version."""
    from napari_restore.models import content_of, definition_of

    parts = [version("napari-restore"), content_of(model), definition_of(model)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def models() -> tuple[ModelCard, ...]:
    """Return the cards of all known models."""
    from napari_restore.models import card_of, model_ids

    return tuple(card_of(name) for name in model_ids())


def tile_invariance(model: Any) -> str:
    """Return what a model's pixels are bit-identical under, as measured on this machine.

    `model` is a name, a path or a model. "any tiles, any threads": the result does not depend on
    the tiling; otherwise plans fix what it depends on. Measured on synthetic tiles the first time,
    then read from the cache folder.
    """
    return engine.describe_tile_invariance(load_model(model))


def inspect_model(
    path: Pathlike,
    *,
    trust: bool = False,
    card: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    emit: Callable[[Event], None] | None = None,
) -> Proposal:
    """Determine the architecture of a model file, and propose a card for it.

    `path` is a .safetensors, .pth, .pt or .ckpt file of weights, an exported .pt2
    program, an .onnx model or ``"FILE.py:factory"``. The model is run on synthetic tiles: not for
    the GUI thread. Programs and Python run only with `trust`; `card` has fields that are known of it;
    `weights` and `parameters` are as for `load_model`; `emit` is called with the events of measuring. Raises `MissingWeights`, `BadModel`.
    """
    _keep_sizes()
    from napari_restore.models import propose

    proposal = propose(path, trust=trust, card=card, weights=weights, parameters=parameters)
    whole = _measure(proposal.model, None, emit)
    made = proposal.model.card
    if not proposal.measured:
        return proposal
    sizes: dict[str, Any] = {
        "multiple_of": made.multiple_of,
        "padded_to": made.padded_to,
        "halo": made.halo,
    }
    if whole:
        sizes["whole"] = whole
        proposal.model.card = replace(made, whole=whole)
    return replace(proposal, card={**proposal.card, **sizes})


def save_card(proposal: Proposal, **fields: Any) -> Path:
    """Write the card of `inspect_model`, updated with `fields`, beside the model's file.

    Returns its path, NAME.json, from which `load_model` reads it. Raises `BadModel` for unknown
    fields, and `BadOutput`.
    """
    from napari_restore.models import write_card

    return write_card(proposal, fields)


def missing_roles(image: Any, card: ModelCard) -> tuple[str, ...]:
    """Return the band roles that `open_image(bands=...)` must name before `card` runs on `image`.

    Raises `UnknownBands` where that cannot help.
    """
    return engine.missing_roles(open_image(image), card)
