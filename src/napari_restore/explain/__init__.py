"""Attribution: path-integrated gradients of a box of the output, their measures and figures."""

from __future__ import annotations

from napari_restore.explain.attribution._attribute import attribute
from napari_restore.explain.attribution._attribution import (
    Attribution,
    OverviewShares,
    overview_path,
)
from napari_restore.explain.attribution._attribution_run import PartialAttribution
from napari_restore.explain.attribution._baselines import NAMES
from napari_restore.explain.attribution._figure import FigureOptions, draw
from napari_restore.explain.attribution._figure_file import check_figure
from napari_restore.explain.attribution._methods import (
    METHODS,
    MethodInfo,
    arguments_in,
    method_list,
    value_of_text,
)
from napari_restore.explain.attribution._problem import Explainer, Problem
from napari_restore.explain.attribution._summary import AttributionSummary, summary_of
from napari_restore.explain.tables._places import TargetPlace, places_of
from napari_restore.explain.tables._rerun import compare_rows, groups_from_task, table_task_of
from napari_restore.explain.tables._rows import (
    PlannedRow,
    RowResult,
    RowValues,
    computed_here,
    group_by_image,
    measured,
)
from napari_restore.explain.tables._table import (
    AttributionTable,
    RowJournal,
    check_table,
    make_table,
)

__all__ = [
    "METHODS",
    "NAMES",
    "Attribution",
    "AttributionSummary",
    "AttributionTable",
    "Explainer",
    "FigureOptions",
    "MethodInfo",
    "OverviewShares",
    "PartialAttribution",
    "PlannedRow",
    "Problem",
    "RowJournal",
    "RowResult",
    "RowValues",
    "TargetPlace",
    "arguments_in",
    "attribute",
    "check_figure",
    "check_table",
    "compare_rows",
    "computed_here",
    "draw",
    "group_by_image",
    "groups_from_task",
    "make_table",
    "measured",
    "method_list",
    "overview_path",
    "places_of",
    "summary_of",
    "table_task_of",
    "value_of_text",
]
