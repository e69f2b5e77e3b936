"""Which network a state dict belongs to, by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models import _weights
from napari_restore.models._registry import ModelEntry, card_of, entry_of, model_ids, structures

_SHOWN = 3


def known_network(state: Mapping[str, Tensor], path: Path) -> str:
    """Return the id of the network that `state`, of the file `path`, fits; raises `BadModel` with the nearest."""
    # Several models may have one network: a copy of shipped weights is known by its content.
    if path.suffix == ".safetensors" and path.is_file():
        shipped = {card_of(name).weights_sha256: name for name in model_ids()}
        copied = shipped.get(_weights.sha256_of_file(path))
        if copied is not None:
            return copied
    for names in (state, _weights.without_wrappers(state)):
        for name, entry in structures().items():
            if _is_of(entry, names):
                return name
    for name in model_ids():
        if card_of(name).needs_weights and _fits(entry_of(name), state):
            return name
    first = ", ".join(list(state)[:_SHOWN])
    raise BadModel(
        f"{path.name} is of no network known here: it begins with {first}{_nearest(state)}.",
        f"Load its code, FILE.py:factory, with this file as its weights, or name the network in "
        f'{path.stem}.json, as {{"model": "nafnet"}}.',
    )


def _is_of(entry: ModelEntry, state: Mapping[str, Any]) -> bool:
    """Return whether `state` has the marks of `entry`, and sizes that it can be made with."""
    named = entry.renamed(state)
    if not all(mark in named for mark in entry.marks):
        return False
    try:
        entry.sizes_in(named)
    except BadModel:
        return False
    return True


def _fits(entry: ModelEntry, state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` can be loaded into the network of `entry`."""
    for names in (state, _weights.without_wrappers(state)):
        try:
            named = entry.renamed(names)
            _weights.fill(entry.make(entry.card, named), named, "")
        except BadModel:
            continue
        return True
    return False


def _nearest(state: Mapping[str, Any]) -> str:
    """Return the end of a sentence: which structure is nearest, and what differs; may be empty."""
    # That is the one with the largest share of kinds of names; of several the one with the most
    # tensors of the same name and shape.
    best, most, words = None, (0.0, 0), ""
    for entry in structures().values():
        with torch.device("meta"):
            made = entry.make(entry.card)
        # Within the model it is a module, or the network of one that adapts it.
        full = {_inner(name): each for name, each in made.state_dict().items()}
        expected = _kinds(full)
        for names, prefix in _namings(state):
            named = entry.renamed(names)
            kinds = _kinds(named)
            share = len(kinds.keys() & expected.keys()) / len(kinds.keys() | expected.keys())
            same = sum(full[n].shape == named[n].shape for n in full.keys() & named.keys())
            if (share, same) <= most:
                continue
            best, most = entry, (share, same)
            lacking = [name for kind, name in expected.items() if kind not in kinds]
            unknown = [
                prefix + name.removeprefix(_STACK) if prefix else name
                for kind, name in kinds.items()
                if kind not in expected
            ]
            parts = [
                f"{verb} {', '.join(listed[:_SHOWN])}"
                for verb, listed in (("lacks", lacking), ("has the unknown", unknown))
                if listed
            ]
            if parts:
                words = f", of which it {' and '.join(parts)}"
            else:
                words = "" if prefix else _other_shapes(entry, named)
            if prefix:
                words = f", whose names begin with {_STACK[:-1]} and not {prefix[:-1]}{words}"
    return f"; nearest is {best.card.title}{words}" if best is not None else ""


_STACK = "model."
"""How the names of networks begin that are one stack of layers."""


def _namings(state: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield `state` under names that a structure may have, and what was put in another's place."""
    yield state, ""
    yield _weights.without_wrappers(state), ""
    # A stack may lie in modules within modules.
    found = [re.match(r"(.*?\.)\d+\.", name) for name in state]
    above = {each[1] if each else "" for each in found}
    if len(above) == 1 and (prefix := above.pop()) not in ("", _STACK):
        yield (
            {_STACK + name.removeprefix(prefix): each for name, each in state.items()},
            prefix,
        )


def _inner(name: str) -> str:
    return name.removeprefix("module.").removeprefix("network.")


def _other_shapes(entry: ModelEntry, state: Mapping[str, Any]) -> str:
    """Return how weights of the same kinds of names differ from those of `entry`."""
    if missing := [mark for mark in entry.marks if mark not in state]:
        return f", of which it lacks {', '.join(missing)}"
    try:
        entry.sizes_in(state)
    except BadModel as error:
        why = error.message.rstrip(".").partition(": ")[2]
        return f", but {why}" if why else ", in other shapes"
    return ", in other shapes"


def _kinds(names: Iterable[str]) -> dict[str, str]:
    """Return the first of `names` of each kind, alike but for numbers; none that count batches."""
    found: dict[str, str] = {}
    for name in names:
        if not name.endswith(_weights.COUNTS):
            found.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "N", name), name)
    return found
