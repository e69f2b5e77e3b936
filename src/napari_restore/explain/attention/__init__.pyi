from ._ablation import HeadEffect
from ._attend import attend, sampled, strata
from ._attention import COLUMNS, Attention
from ._attribution_rank import RANK, AttributionMap, rank_correlation
from ._figure import draw_attention
from ._head_maps import AGGREGATES, HeadMap, HeadMaps, QueryMaps, head_maps, head_number, mean_of
from ._measures import AVERAGED, ONE_CELL, SUMMARY_COLUMNS, measures
from ._queries import SAMPLES, Query, queries_in
from ._redundancy import MEASURES, HeadRedundancy, Measure, mean_of_pairs
from ._rollout import HEAD, rolled_out, stage_of
from ._session import AttentionSession

__all__ = [
    "AGGREGATES",
    "AVERAGED",
    "COLUMNS",
    "HEAD",
    "MEASURES",
    "ONE_CELL",
    "RANK",
    "SAMPLES",
    "SUMMARY_COLUMNS",
    "Attention",
    "AttentionSession",
    "AttributionMap",
    "HeadEffect",
    "HeadMap",
    "HeadMaps",
    "HeadRedundancy",
    "Measure",
    "Query",
    "QueryMaps",
    "attend",
    "draw_attention",
    "head_maps",
    "head_number",
    "mean_of",
    "mean_of_pairs",
    "measures",
    "queries_in",
    "rank_correlation",
    "rolled_out",
    "sampled",
    "stage_of",
    "strata",
]
