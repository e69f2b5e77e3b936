from ._attribution import IMAGE_TAG, REGION_TAG, Attribution
from ._attribution_run import Emit
from ._baselines import InMemory
from ._captum import explainer_of
from ._context_choice import predicted_seconds
from ._context_gradient import ContextGradient
from ._curves import AT
from ._figure import caption
from ._figure_file import (
    WIDTH_MM,
    check_figure,
    figure_file,
    font_points,
    input_lines,
    wrapped_caption,
    write_caption,
)
from ._files import write_arrays, write_file
from ._measures import RINGS, area, beyond, contribution_area, diffusion_index, rings
from ._methods import method_of
from ._objectives import derivative, objective_of
from ._paths import Blur, HazePath, Path, ReleasedDam, SteppedBlur, Straight
from ._quadrature import NESTED, RULES, clenshaw_curtis, fejer, fixed
from ._stored_accumulator import StoredAccumulator
from ._summary import FAR, far_share
from ._target import Polygon, polygon_of

__all__ = [
    "AT",
    "FAR",
    "IMAGE_TAG",
    "NESTED",
    "REGION_TAG",
    "RINGS",
    "RULES",
    "WIDTH_MM",
    "Attribution",
    "Blur",
    "ContextGradient",
    "Emit",
    "HazePath",
    "InMemory",
    "Path",
    "Polygon",
    "ReleasedDam",
    "SteppedBlur",
    "StoredAccumulator",
    "Straight",
    "area",
    "beyond",
    "caption",
    "check_figure",
    "clenshaw_curtis",
    "contribution_area",
    "derivative",
    "diffusion_index",
    "explainer_of",
    "far_share",
    "fejer",
    "figure_file",
    "fixed",
    "font_points",
    "input_lines",
    "method_of",
    "objective_of",
    "polygon_of",
    "predicted_seconds",
    "rings",
    "wrapped_caption",
    "write_arrays",
    "write_caption",
    "write_file",
]
