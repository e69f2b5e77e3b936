"""Which pixels made a result: gradients along a path, and what their maps say."""

from __future__ import annotations

from napari_restore.explain._attribute import attribute
from napari_restore.explain._attribution import Attribution, Overview, overview_path
from napari_restore.explain._attribution_run import PartialAttribution
from napari_restore.explain._baselines import NAMES
from napari_restore.explain._figure import check_figure, draw
from napari_restore.explain._methods import METHODS
from napari_restore.explain.explainers._offered import Offer, arguments_in, literal, offered
from napari_restore.explain.explainers._problem import Explainer, Problem
from napari_restore.explain.tables._again import compared, groups_in, task_of
from napari_restore.explain.tables._places import Place, places_of
from napari_restore.explain.tables._rows import by_image
from napari_restore.explain.tables._table import AttributionTable, check_table, make_table

__all__ = [
    "METHODS",
    "NAMES",
    "Attribution",
    "AttributionTable",
    "Explainer",
    "Offer",
    "Overview",
    "PartialAttribution",
    "Place",
    "Problem",
    "arguments_in",
    "attribute",
    "by_image",
    "check_figure",
    "check_table",
    "compared",
    "draw",
    "groups_in",
    "literal",
    "make_table",
    "offered",
    "overview_path",
    "places_of",
    "task_of",
]
