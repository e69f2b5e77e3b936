from ._ablation import HeadEffect
from ._attend import attend
from ._attention import Attention
from ._figure import draw_attention
from ._head_maps import (
    AGGREGATES,
    HeadMap,
    HeadMaps,
    QueryMaps,
    head_number,
)
from ._queries import Query, queries_in
from ._redundancy import (
    MEASURES,
    HeadRedundancy,
    Measure,
    mean_of_pairs,
)
from ._session import AttentionSession

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
