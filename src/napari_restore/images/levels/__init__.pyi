from ._level_view import LevelReader, halved_views, scaled
from ._making import (
    OnLanded,
    PyramidSource,
    StreamedSource,
    build_pyramid,
    is_streamed,
    planned_levels,
    stream,
    stream_of,
)
from ._reduce import level_sizes, next_value
from ._row_pyramid import LEAST_ROWS, RowPyramid, row_levels

__all__ = [
    "LEAST_ROWS",
    "LevelReader",
    "OnLanded",
    "PyramidSource",
    "RowPyramid",
    "StreamedSource",
    "build_pyramid",
    "halved_views",
    "is_streamed",
    "level_sizes",
    "next_value",
    "planned_levels",
    "row_levels",
    "scaled",
    "stream",
    "stream_of",
]
