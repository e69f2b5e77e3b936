from ._attribution_form import BASELINES, BRACKET_BASELINES, METHODS, OBJECTIVES, WITH_BASELINE
from ._attribution_tab import AttributionTab
from ._attribution_task import AttributionRequest, AttributionTask
from ._layers import AttributionLayers, MapArrays, signed_colours
from ._plots import BLUE, GREY, begin
from ._results_section import as_html, report

__all__ = [
    "BASELINES",
    "BLUE",
    "BRACKET_BASELINES",
    "GREY",
    "METHODS",
    "OBJECTIVES",
    "WITH_BASELINE",
    "AttributionLayers",
    "AttributionRequest",
    "AttributionTab",
    "AttributionTask",
    "MapArrays",
    "as_html",
    "begin",
    "report",
    "signed_colours",
]
