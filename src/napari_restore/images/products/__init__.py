"""Products as agencies ship them: metadata and one file for each band."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
