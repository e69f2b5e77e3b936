"""The tab for exposure fusion: the frames of a bracket, and their picture as it is restored."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
