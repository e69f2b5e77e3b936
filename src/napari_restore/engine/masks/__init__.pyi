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
from ._open_mask import GradientMask, flags_of_raster, note_of_share, open_exclude, open_mask

__all__ = [
    "Feathered",
    "GradientMask",
    "MaskStrength",
    "PolygonMask",
    "RasterMask",
    "RegionMask",
    "Within",
    "flags_of_raster",
    "mask_at_level",
    "note_of_share",
    "open_exclude",
    "open_mask",
    "pieces_of",
]
