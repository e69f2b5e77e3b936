"""Evaluation of models on pairs of hazy and clear images: scores, tests, tables, strips."""

from __future__ import annotations

from napari_restore.training.score._case_task import CaseItem, MethodTask, ScoringTask, score_item
from napari_restore.training.score._cases import Case
from napari_restore.training.score._evaluate import CaseAnswer
from napari_restore.training.score._methods import methods_of
from napari_restore.training.score._outputs import ALL
from napari_restore.training.score._pairs import Pair, Pairs, find_pairs
from napari_restore.training.score._session import perform
from napari_restore.training.score._statistics import sign_flip_test
from napari_restore.training.score._tables import text_table

__all__ = [
    "ALL",
    "Case",
    "CaseAnswer",
    "CaseItem",
    "MethodTask",
    "Pair",
    "Pairs",
    "ScoringTask",
    "find_pairs",
    "methods_of",
    "perform",
    "score_item",
    "sign_flip_test",
    "text_table",
]
