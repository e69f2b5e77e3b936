"""Before and after: swipe, blink, side by side, figures and side maps.

Nothing here runs a model: it reads the pixels of source and results.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
