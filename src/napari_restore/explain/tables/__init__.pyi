from ._bootstrap import RESAMPLES, mean_of, means_of
from ._rows import COLUMNS
from ._table import MEASURES, summary_of

__all__ = [
    "COLUMNS",
    "MEASURES",
    "RESAMPLES",
    "mean_of",
    "means_of",
    "summary_of",
]
