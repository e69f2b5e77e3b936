"""Outputs of a model and their gradients with respect to the pixels, tile by tile."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
