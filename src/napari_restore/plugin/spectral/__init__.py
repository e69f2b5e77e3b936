"""What the bands of a map tell: combinations of them on the screen, indices, and spectra."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
