from ._attention import SIDE, HierarchicalAttention, products_of, squares_of
from ._blocks import cells_valid
from ._cards import ENTRIES
from ._config import LEVEL_OF
from ._model import Hint, entropy_of, logit_map, projected_parts, similarities
from ._series import HintSeries, make_series
from ._sweeps import layer_statistics_of
from ._ways import HintByCrops, HintByOverview, make

__all__ = [
    "ENTRIES",
    "LEVEL_OF",
    "SIDE",
    "HierarchicalAttention",
    "Hint",
    "HintByCrops",
    "HintByOverview",
    "HintSeries",
    "cells_valid",
    "entropy_of",
    "layer_statistics_of",
    "logit_map",
    "make",
    "make_series",
    "products_of",
    "projected_parts",
    "similarities",
    "squares_of",
]
