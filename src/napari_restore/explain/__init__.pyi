from .attribution._arguments import MethodInfo, argument_value, arguments_in
from .attribution._attribute import attribute, open_baseline, picture_of
from .attribution._overview import OverviewShares
from .attribution._problem import Explainer, Problem
from .attribution.attribution import (
    Attribution,
    PartialAttribution,
    check_map,
    is_raster,
    overview_path,
)
from .attribution.baselines import NAMES
from .attribution.comparison import MapPiece, draw_maps
from .attribution.figure import draw
from .attribution.figure_file import FigureOptions, FigureStyle, StyleOptions, check_figure
from .attribution.methods import METHODS, method_list
from .attribution.opened_maps import OpenedMap, holds_maps, opened_maps
from .attribution.summary import AttributionSummary, attribution_summary
from .attribution.target import polygon_of
from .kinds import KINDS, Kind, kind_of, kinds_in
from .tables._targets import TableTarget, targets_of
from .tables.rows import PlannedRow, RowResult, RowValues, computed_here, group_by_image, measured
from .tables.table import AttributionTable, RowJournal, check_table, make_table, table_task_of

__all__ = [
    "KINDS",
    "METHODS",
    "NAMES",
    "Attribution",
    "AttributionSummary",
    "AttributionTable",
    "Explainer",
    "FigureOptions",
    "FigureStyle",
    "Kind",
    "MapPiece",
    "MethodInfo",
    "OpenedMap",
    "OverviewShares",
    "PartialAttribution",
    "PlannedRow",
    "Problem",
    "RowJournal",
    "RowResult",
    "RowValues",
    "StyleOptions",
    "TableTarget",
    "argument_value",
    "arguments_in",
    "attribute",
    "attribution_summary",
    "check_figure",
    "check_map",
    "check_table",
    "computed_here",
    "draw",
    "draw_maps",
    "group_by_image",
    "holds_maps",
    "is_raster",
    "kind_of",
    "kinds_in",
    "make_table",
    "measured",
    "method_list",
    "open_baseline",
    "opened_maps",
    "overview_path",
    "picture_of",
    "polygon_of",
    "table_task_of",
    "targets_of",
]
