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


def with_shipped(state: Mapping[str, Tensor], *, needs: bool) -> dict[str, Tensor]:
    """Return a state dict with the atmosphere network that its network `needs`.

    Files that do not contain it, as the shipped ones, get the one that comes with the package.
    Others are unchanged.
    """
    if not needs or any(name.startswith(CONTEXT) for name in state):
        return dict(state)
    shipped = read_state(shipped_weights(entry_of("atmosphere")))
    return {**state, **{CONTEXT + name: value for name, value in shipped.items()}}


def takes_planes(state: Mapping[str, Tensor], layer: str, planes: int) -> bool:
    """Return whether the first convolution, `layer`, has so many input channels."""
    first = state.get(layer)
    return first is not None and first.ndim == 4 and first.shape[1] == planes


def sizes_of_context(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return ``context`` and ``looks`` of the atmosphere in a state dict; empty without one.

    Raises `BadModel`.
    """
    names = [name for name in state if name.startswith(CONTEXT)]
    if not names:
        return {}
    sizes = sizes_of({name.removeprefix(CONTEXT): state[name] for name in names})
    return {"context": sizes["width"], "looks": sizes["looks"]}
