from ._asked import KeptAnswer, PreparedAttention
from ._attention_tab import AttentionTab
from ._heads_view import DARK, SIDE, ComparedHeads, HeadsView, Thumbnails, of_layer
from ._layers import in_one_go
from ._matrix_panel import HeatMap, MatrixPanel, RedundancyPanel
from ._share_plots import BarChart, shares_of

__all__ = [
    "DARK",
    "SIDE",
    "AttentionTab",
    "BarChart",
    "ComparedHeads",
    "HeadsView",
    "HeatMap",
    "KeptAnswer",
    "MatrixPanel",
    "PreparedAttention",
    "RedundancyPanel",
    "Thumbnails",
    "in_one_go",
    "of_layer",
    "shares_of",
]
