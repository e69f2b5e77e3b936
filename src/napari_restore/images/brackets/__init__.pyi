from ._alignment import displacement, place
from ._bracket import exposures_for

__all__ = [
    "displacement",
    "exposures_for",
    "place",
]
