from ._rows import COLUMNS
from ._table import MEASURES, mean_of, summary_of

__all__ = [
    "COLUMNS",
    "MEASURES",
    "mean_of",
    "summary_of",
]
