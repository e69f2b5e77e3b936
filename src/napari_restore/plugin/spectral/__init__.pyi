from ._index_view import IndexView
from ._indices import IndexMap
from ._spectral_section import SpectralSection
from ._spectrum import PixelSpectrum, spectrum_at
from ._spectrum_view import SpectrumView

__all__ = [
    "IndexMap",
    "IndexView",
    "PixelSpectrum",
    "SpectralSection",
    "SpectrumView",
    "spectrum_at",
]
