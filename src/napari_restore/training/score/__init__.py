"""Evaluation of models on pairs of hazy and clear images: scores, tests, tables, strips."""

from __future__ import annotations

from napari_restore.training.score._outputs import ALL
from napari_restore.training.score._pairs import Pair, Pairs, find_pairs
from napari_restore.training.score._session import perform
from napari_restore.training.score._statistics import sign_flip_test
from napari_restore.training.score._tables import text_table

__all__ = [
    "ALL",
    "Pair",
    "Pairs",
    "find_pairs",
    "perform",
    "sign_flip_test",
    "text_table",
]
