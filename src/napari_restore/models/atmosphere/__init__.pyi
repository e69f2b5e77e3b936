from ._cards import ENTRIES, THICKEST
from ._cells import Light, cells_of
from ._inversion import inverted, optical_depth
from ._model import (
    Atmosphere,
    BehindAtmosphere,
    capped,
    with_light_skies,
)
from ._network import Estimate, ResidualBlock, sizes_of
from ._part import sizes_of_context
from ._restraint import TOLERANCE, guarded_green, magenta, restrained, sure_colours
from ._small import small, small_overview
from ._spline import BilinearSampler, guided, smooth

__all__ = [
    "ENTRIES",
    "THICKEST",
    "TOLERANCE",
    "Atmosphere",
    "BehindAtmosphere",
    "BilinearSampler",
    "Estimate",
    "Light",
    "ResidualBlock",
    "capped",
    "cells_of",
    "guarded_green",
    "guided",
    "inverted",
    "magenta",
    "optical_depth",
    "restrained",
    "sizes_of",
    "sizes_of_context",
    "small",
    "small_overview",
    "smooth",
    "sure_colours",
    "with_light_skies",
]
