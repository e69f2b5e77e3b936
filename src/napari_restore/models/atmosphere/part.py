"""The atmosphere as a part of another network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_restore.models.atmosphere.network import sizes_of

CONTEXT = "atmosphere."
"""Prefix of the tensor names."""


def sizes_of_context(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return ``context`` and ``looks`` of the atmosphere in a state dict; empty without one.

    Raises `BadModel`.
    """
    names = [name for name in state if name.startswith(CONTEXT)]
    if not names:
        return {}
    sizes = sizes_of({name.removeprefix(CONTEXT): state[name] for name in names})
    return {"context": sizes["width"], "looks": sizes["looks"]}
