"""Attribution: path-integrated gradients of a box of the output, their measures and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
