"""The atmosphere as a part of another network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_restore.models._load import shipped_weights
from napari_restore.models._registry import entry_of
from napari_restore.models._weights import read_state
from napari_restore.models.atmosphere._network import sizes_of

CONTEXT = "atmosphere."
"""Prefix of the tensor names."""


def with_shipped(state: Mapping[str, Tensor], layer: str, planes: int) -> dict[str, Tensor]:
    """Return a state dict with the atmosphere network that its network depends on.

    Files that need one, by the input channels (`planes`) of the first `layer`, and do not contain
    it, as the shipped ones, get the one that comes with the package. Others are unchanged.
    """
    first = state.get(layer)
    has_own = any(name.startswith(CONTEXT) for name in state)
    if first is None or first.ndim != 4 or first.shape[1] != planes or has_own:
        return dict(state)
    shipped = read_state(shipped_weights(entry_of("atmosphere")))
    return {**state, **{CONTEXT + name: value for name, value in shipped.items()}}


def sizes_of_context(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return ``context`` and ``looks`` of the atmosphere in a state dict; empty without one.

    Raises `BadModel`.
    """
    names = [name for name in state if name.startswith(CONTEXT)]
    if not names:
        return {}
    sizes = sizes_of({name.removeprefix(CONTEXT): state[name] for name in names})
    return {"context": sizes["width"], "looks": sizes["looks"]}
