from ._areas import (
    PAINT,
    PAINT_SIDE,
    TARGETS_OF,
    AreaController,
    area_of,
    areas_layer,
    chosen_strength,
    corners_in_pixels,
    is_upright_box,
    new_paint_layer,
    outlines,
    strength_layers,
)
from ._drawing_controller import THIN, DrawingController, Tool, add_outlines, thin_edge
from ._target_chooser import ExcludeChooser, TargetChooser

__all__ = [
    "PAINT",
    "PAINT_SIDE",
    "TARGETS_OF",
    "THIN",
    "AreaController",
    "DrawingController",
    "ExcludeChooser",
    "TargetChooser",
    "Tool",
    "add_outlines",
    "area_of",
    "areas_layer",
    "chosen_strength",
    "corners_in_pixels",
    "is_upright_box",
    "new_paint_layer",
    "outlines",
    "strength_layers",
    "thin_edge",
]
