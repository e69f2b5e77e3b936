"""Synthetic degradations other than haze: noise, cameras, low light, and exposures of a bracket."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
