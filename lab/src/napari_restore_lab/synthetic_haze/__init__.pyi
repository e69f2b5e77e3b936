from ._draw import STRENGTH, draw_haze
from ._fields import SPECTRA, Spectrum
from ._fog import FOG_GREY, draw_fog
from ._sampled import cell_means
from ._scatter import WAVELENGTHS, Haze, add_haze, transmission_of
from ._scene import LUMA, ClearScene, haze_scene
from ._sensor import degrade
from ._synthetic_distance import DISTANCES, bright, synthetic_distance
from ._wide import MIDDLE_GREY, draw_wide, metered

__all__ = [
    "DISTANCES",
    "FOG_GREY",
    "LUMA",
    "MIDDLE_GREY",
    "SPECTRA",
    "STRENGTH",
    "WAVELENGTHS",
    "ClearScene",
    "Haze",
    "Spectrum",
    "add_haze",
    "bright",
    "cell_means",
    "degrade",
    "draw_fog",
    "draw_haze",
    "draw_wide",
    "haze_scene",
    "metered",
    "synthetic_distance",
    "transmission_of",
]
