"""What the window knows: the chosen image, method and area, and what they ask."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
