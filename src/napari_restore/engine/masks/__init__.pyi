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
from ._open_mask import (
    GradientMask,
    MaskChoices,
    choices_of,
    note_of_share,
    open_exclude,
    open_mask,
)

__all__ = [
    "Feathered",
    "GradientMask",
    "MaskChoices",
    "MaskStrength",
    "PolygonMask",
    "RasterMask",
    "RegionMask",
    "Within",
    "choices_of",
    "mask_at_level",
    "note_of_share",
    "open_exclude",
    "open_mask",
    "pieces_of",
]
