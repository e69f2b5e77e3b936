"""Attention views: what each head of a network looks at for one place of an image."""

from __future__ import annotations

from napari_restore.explain.attention._ablation import HeadEffect
from napari_restore.explain.attention._attend import attend
from napari_restore.explain.attention._attention import Attention
from napari_restore.explain.attention._figure import draw_attention
from napari_restore.explain.attention._head_maps import (
    AGGREGATES,
    HeadMap,
    HeadMaps,
    head_number,
)
from napari_restore.explain.attention._queries import Query, queries_in
from napari_restore.explain.attention._redundancy import (
    MEASURES,
    HeadRedundancy,
    Measure,
    mean_of_pairs,
)
from napari_restore.explain.attention._session import AttentionSession, QueryMaps

__all__ = [
    "AGGREGATES",
    "MEASURES",
    "Attention",
    "AttentionSession",
    "HeadEffect",
    "HeadMap",
    "HeadMaps",
    "HeadRedundancy",
    "Measure",
    "Query",
    "QueryMaps",
    "attend",
    "draw_attention",
    "head_number",
    "mean_of_pairs",
    "queries_in",
]
