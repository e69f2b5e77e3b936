"""Haze from the whole image: a network on the overview, then pixelwise inversion. Cards only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
