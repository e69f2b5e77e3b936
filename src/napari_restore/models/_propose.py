"""Inspection of a model file, and the card it needs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_restore._replacing import replacing
from napari_restore.errors import BadModel, BadOutput
from napari_restore.models import _weights
from napari_restore.models._code import is_script
from napari_restore.models._known import known_network
from napari_restore.models._load import found_in_folder, load, no_model_file
from napari_restore.models._model import RestorationModel
from napari_restore.models._onnx import SUFFIXES as ONNX
from napari_restore.models._wrap import WrappedModel, as_card, card_beside


@dataclass(frozen=True)
class Proposal:
    """Result of an inspection. `card` is the proposed content of NAME.json."""

    source: str
    """Argument of `load`: the file, or ``"FILE.py:factory"``."""
    model: RestorationModel
    card: Mapping[str, Any]
    """Fields of a card; empty if the model brings its own."""
    architecture: str
    bytes: int
    sha256: str
    measured: bool = False
    """Whether the sizes in `card` were measured."""
    known: bool = False
    """Whether the card lay beside the file already."""

    questions: tuple[str, ...] = ()
    """What only its author knows, each a sentence with the field of the card that answers it."""

    @property
    def path(self) -> Path:
        """The file."""
        return _file_of(self.source)


QUESTIONS = {
    "value_range": "Does it take values of [0, 1]? Others are given as value_range=[-1, 1], or [0, 255].",
    "mean": "Are values normalised? If so, give mean and std of the bands.",
    "roles": 'Are its bands red, green, blue? BGR is given as roles=["blue", "green", "red"].',
    "task": "What was it trained for? Give its task, denoise for instance.",
}
"""Questions by the field of the card that answers them."""


def propose(
    path: str | os.PathLike[str],
    *,
    trust: bool = False,
    card: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Proposal:
    """Return the description of the model file at `path`; see `napari_restore.api.inspect_model`.

    `card` has fields over those beside the file; `weights` and `parameters` are as for `load`. Raises
    `MissingWeights` and `BadModel`.
    """
    source = found_in_folder(os.fspath(path))
    file = _file_of(source)
    suffix = file.suffix.lower()
    if suffix not in (".pt2", ".py", *ONNX, *_weights.SUFFIXES):
        raise no_model_file(str(file))
    if not file.is_file():
        raise BadModel(f"There is no plain file {file}.", "Check the path.")
    beside = card_beside(file)
    if suffix in _weights.SUFFIXES and not is_script(file):
        return _of_weights(file, beside, card or {}, weights, parameters)
    if (beside is not None and not card) or not (trust or suffix in ONNX):
        # Without trust, loading code raises here.
        model = load(source, trust=trust, weights=weights, parameters=parameters)
        return _of(source, model, beside or {}, known=True)
    given = {**(beside or {}), **(card or {})}
    model = load(source, card=given or None, weights=weights, parameters=parameters, trust=True)
    return _of_code(source, model, given)


def write_card(proposal: Proposal, fields: Mapping[str, Any]) -> Path:
    """Write `proposal.card` with `fields` over it beside the file; raises `BadOutput`, `BadModel`."""
    content = {**proposal.card, **fields}
    as_card({k: v for k, v in content.items() if k != "model"}, proposal.model.card)
    target = proposal.path.with_suffix(".json")
    try:
        with replacing(target) as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise BadOutput(
            f"The card {target.name} cannot be written beside the model ({error.strerror}).",
            "Copy the model to a folder you may write to.",
        ) from error
    return target


def _file_of(source: str) -> Path:
    script, _, _ = source.rpartition(":")
    return Path(script if script.lower().endswith(".py") else source)


def _of(source: str, model: RestorationModel, card: Mapping[str, Any], **found: Any) -> Proposal:
    file = _file_of(source)
    inner = model.network if isinstance(model, WrappedModel) else model
    name = model.structure or type(inner).__name__
    if file.suffix.lower() == ".pt2":
        name = "exported program"
    elif file.suffix.lower() in ONNX:
        name = "ONNX model"
    elif is_script(file):
        name = "TorchScript"
    return Proposal(
        source=source,
        model=model,
        card=card,
        architecture=name,
        bytes=file.stat().st_size,
        sha256=_weights.sha256_of_file(file),
        **found,
    )


def _of_weights(
    file: Path,
    beside: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    weights: str | os.PathLike[str] | None,
    parameters: Mapping[str, Any] | None,
) -> Proposal:
    """Return the proposal for weights, of the network that their card names, else one that they fit."""
    if beside is not None and "model" in beside and not given:
        model = load(file, weights=weights, parameters=parameters)
        return _of(str(file), model, beside, known=True)
    fields = {**(beside or {}), **given}
    network = fields.get("model") or known_network(_weights.read_state(file), file)
    card = {"model": network, "title": file.stem, **fields}
    model = load(file, card=card, weights=weights, parameters=parameters)
    return _of(str(file), model, card, measured=model.measured)


def _of_code(source: str, model: RestorationModel, given: Mapping[str, Any]) -> Proposal:
    """Return the proposal for the `model` in `source`, of which what is not `given` is measured."""
    file = _file_of(source)
    if not isinstance(model, WrappedModel):
        return _of(source, model, {})
    found = model.card
    card = {"title": file.stem, "summary": f"From {file.name}.", **given}
    card |= {"bands": found.bands, "multiple_of": found.multiple_of}
    if found.ratio != 1:
        card["scale"] = found.scale
    if file.suffix.lower() in (".pt2", *ONNX):
        # The sizes are fixed in the program.
        card["halo"] = found.halo
    model.card = replace(found, title=card["title"], summary=card["summary"])
    questions = tuple(text for name, text in QUESTIONS.items() if name not in given)
    return replace(_of(source, model, card, measured=model.measured), questions=questions)
