from ._connection import WorkersLost
from ._item_run import Remote
from ._ranges import MOST, Ranges, by_chunks

__all__ = [
    "MOST",
    "Ranges",
    "Remote",
    "WorkersLost",
    "by_chunks",
]
