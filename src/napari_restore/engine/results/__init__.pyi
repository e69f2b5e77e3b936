from ._blended import (
    AFFORDABLE,
    AT_ONCE,
    expose,
    exposure_between,
    is_affordable,
    light_luma,
    read_source,
    sample_boxes,
)
from ._luma import REC_709, LumaModel, blend
from ._quality import QUALITY, change_bits, count_quality, disjoint, parts_inside
from ._result import Result

__all__ = [
    "AFFORDABLE",
    "AT_ONCE",
    "QUALITY",
    "REC_709",
    "LumaModel",
    "Result",
    "blend",
    "change_bits",
    "count_quality",
    "disjoint",
    "expose",
    "exposure_between",
    "is_affordable",
    "light_luma",
    "parts_inside",
    "read_source",
    "sample_boxes",
]
