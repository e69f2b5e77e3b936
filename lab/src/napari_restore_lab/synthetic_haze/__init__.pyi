from ._draw import STRENGTH as STRENGTH, draw_haze as draw_haze
from ._fields import SPECTRA as SPECTRA, Spectrum as Spectrum
from ._fog import FOG_GREY as FOG_GREY, draw_fog as draw_fog
from ._sampled import cell_means as cell_means
from ._scatter import (
    WAVELENGTHS as WAVELENGTHS,
    Haze as Haze,
    add_haze as add_haze,
    transmission_of as transmission_of,
)
from ._scene import LUMA as LUMA, ClearScene as ClearScene, haze_scene as haze_scene
from ._sensor import degrade as degrade
from ._synthetic_distance import (
    DISTANCES as DISTANCES,
    bright as bright,
    synthetic_distance as synthetic_distance,
)
from ._wide import MIDDLE_GREY as MIDDLE_GREY, draw_wide as draw_wide, metered as metered
