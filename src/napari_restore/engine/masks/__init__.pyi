from ._mask_level import mask_at_level
from ._mask_strength import (
    Feathered,
    MaskStrength,
    PolygonMask,
    RasterMask,
    RegionMask,
    Within,
    pieces_of,
)
from ._open_mask import GradientMask, open_exclude, open_mask

__all__ = [
    "Feathered",
    "GradientMask",
    "MaskStrength",
    "PolygonMask",
    "RasterMask",
    "RegionMask",
    "Within",
    "mask_at_level",
    "open_exclude",
    "open_mask",
    "pieces_of",
]
