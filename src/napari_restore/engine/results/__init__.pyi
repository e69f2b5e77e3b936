from ._blended import expose, exposure_between, light_luma, sample_boxes
from ._luma import REC_709, LumaModel, blend
from ._quality import QUALITY, change_bits, count_quality, disjoint, parts_inside
from ._result import Result
from ._source_levels import AFFORDABLE, AT_ONCE, is_affordable, read_source

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
