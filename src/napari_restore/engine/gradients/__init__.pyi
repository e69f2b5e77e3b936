from ._cost import ContextCost, GradientCost, context_pass_cost
from ._gradient_source import GradientSource, Picture, restored, side_maps
from ._gradients import Gradients, gradients_of
from ._kept import Shelf, check_disk
from ._layer import LayerGradients, layer_of
from ._local import LocalGradients
from ._swept import SweptGradients
from ._vjp import vjp

__all__ = [
    "ContextCost",
    "GradientCost",
    "GradientSource",
    "Gradients",
    "LayerGradients",
    "LocalGradients",
    "Picture",
    "Shelf",
    "SweptGradients",
    "check_disk",
    "context_pass_cost",
    "gradients_of",
    "layer_of",
    "restored",
    "side_maps",
    "vjp",
]
