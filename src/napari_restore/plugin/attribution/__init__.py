"""The Attribution tab: which pixels of the image made a part of the result."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
