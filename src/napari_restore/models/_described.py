"""A model of which only the description is here: the network itself is in another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from napari_restore.models._card import ModelCard


@dataclass(frozen=True)
class DescribedModel:
    """What a plan, a result and their records say of a model; made without importing torch.

    It stands in a `Plan` for the `RestorationModel` by which another process has made it. Nothing can be
    computed with it here.
    """

    card: ModelCard
    """As planned: with the sizes that were measured."""
    spec: dict[str, Any] = field(hash=False)
    """Arguments of `load` that make the model."""
    identity: dict[str, str | None] = field(hash=False)
    """As `identity_of` returns it."""
    fixed_tile: int | None
    is_swept: bool
    is_cut: bool
    """Whether it is a network cut into sweeps."""
