"""Restoration models: cards, registry, loading. torch is imported when one is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from napari_restore.models._card import ModelCard, Parameter, Scope, Task, Value
from napari_restore.models._registry import (
    ModelEntry,
    card_of,
    is_ready,
    model_ids,
    recommended,
    ships,
)

if TYPE_CHECKING:
    from napari_restore.models._context import BINS, BLOCK, Context
    from napari_restore.models._context_pass import (
        BlockStatistics,
        ContextPass,
        context_of,
        overview_factor,
    )
    from napari_restore.models._load import load
    from napari_restore.models._model import (
        RestorationModel,
        Statistics,
        ToModel,
        one_shot_statistics,
        placed_at,
    )
    from napari_restore.models._named import Labelled, Named, label_of, load_named, named
    from napari_restore.models._padding import reflected
    from napari_restore.models._propose import Proposal, propose, write_card
    from napari_restore.models._routing import Routing
    from napari_restore.models._script import factories_in
    from napari_restore.models._spectral import HAZE_EXPONENT, correct_band, transmission_at
    from napari_restore.models._staged import StagedModel
    from napari_restore.models._weights import sha256_of_file, sha256_of_state

__all__ = [
    "BINS",
    "BLOCK",
    "HAZE_EXPONENT",
    "BlockStatistics",
    "Context",
    "ContextPass",
    "Labelled",
    "ModelCard",
    "ModelEntry",
    "Named",
    "Parameter",
    "Proposal",
    "RestorationModel",
    "Routing",
    "Scope",
    "StagedModel",
    "Statistics",
    "Task",
    "ToModel",
    "Value",
    "card_of",
    "context_of",
    "correct_band",
    "factories_in",
    "is_ready",
    "label_of",
    "load",
    "load_named",
    "model_ids",
    "named",
    "one_shot_statistics",
    "overview_factor",
    "placed_at",
    "propose",
    "recommended",
    "reflected",
    "sha256_of_file",
    "sha256_of_state",
    "ships",
    "transmission_at",
    "write_card",
]

_LAZY = {
    "BINS": "_context",
    "BLOCK": "_context",
    "BlockStatistics": "_context_pass",
    "Routing": "_routing",
    "Context": "_context",
    "ContextPass": "_context_pass",
    "Statistics": "_model",
    "HAZE_EXPONENT": "_spectral",
    "Labelled": "_named",
    "Named": "_named",
    "Proposal": "_propose",
    "RestorationModel": "_model",
    "StagedModel": "_staged",
    "ToModel": "_model",
    "context_of": "_context_pass",
    "correct_band": "_spectral",
    "factories_in": "_script",
    "label_of": "_named",
    "load": "_load",
    "load_named": "_named",
    "named": "_named",
    "one_shot_statistics": "_model",
    "overview_factor": "_context_pass",
    "placed_at": "_model",
    "propose": "_propose",
    "reflected": "_padding",
    "sha256_of_file": "_weights",
    "sha256_of_state": "_weights",
    "transmission_at": "_spectral",
    "write_card": "_propose",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
