from ._cards import ENTRIES
from ._cube import CubeLayers, most_given, sampled, taps
from ._network import IplNetwork
from ._quantise import RANGE_BYTES, affine, by_cell, cell_values
from ._sweeps import Ipl, make, make_small

__all__ = [
    "ENTRIES",
    "RANGE_BYTES",
    "CubeLayers",
    "Ipl",
    "IplNetwork",
    "affine",
    "by_cell",
    "cell_values",
    "make",
    "make_small",
    "most_given",
    "sampled",
    "taps",
]
