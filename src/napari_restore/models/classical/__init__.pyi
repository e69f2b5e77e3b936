from ._base import airlight_of, soft_gate
from ._cards import ENTRIES
from ._ghosts import BINS, OWN_BINS, curves
from ._guided import apply_coefficients, box_mean, guided_coefficients

__all__ = [
    "BINS",
    "ENTRIES",
    "OWN_BINS",
    "airlight_of",
    "apply_coefficients",
    "box_mean",
    "curves",
    "guided_coefficients",
    "soft_gate",
]
