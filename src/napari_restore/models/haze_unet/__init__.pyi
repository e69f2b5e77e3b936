from ._cards import ENTRIES
from ._network import STRIDE, HazeUNet, halo_of

__all__ = [
    "ENTRIES",
    "STRIDE",
    "HazeUNet",
    "halo_of",
]
