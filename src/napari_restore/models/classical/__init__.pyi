from ._base import airlight_of, soft_gate
from ._cards import ENTRIES
from ._ghosts import BINS, COLUMNS, OWN_BINS, curves, frames_of_regions, regions
from ._guided import apply_coefficients, box_mean, guided_coefficients

__all__ = [
    "BINS",
    "COLUMNS",
    "ENTRIES",
    "OWN_BINS",
    "airlight_of",
    "apply_coefficients",
    "box_mean",
    "curves",
    "frames_of_regions",
    "guided_coefficients",
    "regions",
    "soft_gate",
]
