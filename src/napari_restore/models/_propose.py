"""Inspection of a model file, and the card it needs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_restore._replacing import replacing
from napari_restore.errors import BadModel, BadOutput
from napari_restore.models import _weights
from napari_restore.models._known import known_network
from napari_restore.models._load import load
from napari_restore.models._model import RestorationModel
from napari_restore.models._unfit import BAND_COUNTS, TRIAL_SIDE, possible_sizes
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

    @property
    def path(self) -> Path:
        """The file."""
        return _file_of(self.source)


def propose(path: str | os.PathLike[str], *, trust: bool = False) -> Proposal:
    """Return the description of the model file at `path`; see `napari_restore.api.inspect_model`.

    Raises `MissingWeights` and `BadModel`.
    """
    source = os.fspath(path)
    file = _file_of(source)
    suffix = file.suffix.lower()
    if suffix not in (".pt2", ".py", *_weights.SUFFIXES):
        raise BadModel(
            f"{file.name} is no model file.",
            f"Taken are {', '.join(_weights.SUFFIXES)}, .pt2 and .py.",
        )
    if not file.is_file():
        raise BadModel(f"There is no file {file}.", "Check the path.")
    beside = card_beside(file)
    if suffix in _weights.SUFFIXES:
        return _of_weights(file, beside)
    if beside is not None or not trust:
        # Without trust, loading raises here.
        model = load(source, trust=trust)
        return _of(source, model, beside or {}, known=True)
    return _of_code(source)


def write_card(proposal: Proposal, fields: Mapping[str, Any]) -> Path:
    """Write `proposal.card` with `fields` over it beside the file.

    Raises `BadOutput`, `BadModel`.
    """
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


def _of(source: str, model: RestorationModel, card: Mapping[str, Any], **found: bool) -> Proposal:
    file = _file_of(source)
    inner = model.network if isinstance(model, WrappedModel) else model
    name = model.structure or type(inner).__name__
    program = file.suffix.lower() == ".pt2"
    return Proposal(
        source=source,
        model=model,
        card=card,
        architecture="exported program" if program else name,
        bytes=file.stat().st_size,
        sha256=_weights.sha256_of_file(file),
        **found,
    )


def _of_weights(file: Path, beside: Mapping[str, Any] | None) -> Proposal:
    """Return the proposal for weights.

    The network is the one that their card names, else one that they fit.
    """
    if beside is not None and "model" in beside:
        return _of(str(file), load(file), beside, known=True)
    network = known_network(_weights.read_state(file), file)
    card = {"model": network, "title": file.stem, **(beside or {})}
    model = load(file, card=card)
    return _of(str(file), model, card, measured=model.measured)


def _of_code(source: str) -> Proposal:
    """Return the proposal for a program or a module without a card.

    Bands and sizes are measured.
    """
    file = _file_of(source)

    def with_card(card: Mapping[str, Any]) -> RestorationModel:
        model = load(source, card=card, trust=True)
        model.measured = True
        return model

    title = {"title": file.stem, "summary": f"From {file.name}."}
    if file.suffix.lower() == ".pt2":
        # The sizes are fixed in the program.
        loaded_card = load(source, trust=True).card
        card = {
            **title,
            "bands": loaded_card.bands,
            "multiple_of": loaded_card.multiple_of,
            "halo": loaded_card.halo,
        }
        return _of(source, with_card(card), card, measured=True)
    first = with_card({"bands": BAND_COUNTS[0]})
    if not isinstance(first, WrappedModel):
        first.measured = False
        return _of(source, first, {})
    for sizes in possible_sizes(first.module):
        card = {**title, **sizes}
        return _of(source, with_card(card), card, measured=True)
    raise BadModel(
        f"{file.name} gives no image of the same size and bands for the images tried, "
        f"{TRIAL_SIDE} pixels wide and more.",
        "Export it with free height and width, or write its bands and multiple_of to "
        f"{file.stem}.json.",
    )
