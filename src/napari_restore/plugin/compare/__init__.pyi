from ._compare_section import KEY, Blink, CompareSection
from ._compared_layers import Compared, LayerPixels, LinkedContrast, SideBySide, within
from ._figures_view import MAX_PIXELS, FiguresView, data_range_of, figures, references_for
from ._maps_view import CATEGORIES, MapLayers, SideMap, available, categories, legend, percent
from ._swipe import GRAB, Swipe

__all__ = [
    "CATEGORIES",
    "GRAB",
    "KEY",
    "MAX_PIXELS",
    "Blink",
    "CompareSection",
    "Compared",
    "FiguresView",
    "LayerPixels",
    "LinkedContrast",
    "MapLayers",
    "SideBySide",
    "SideMap",
    "Swipe",
    "available",
    "categories",
    "data_range_of",
    "figures",
    "legend",
    "percent",
    "references_for",
    "within",
]
