"""The area that is restored: drawn, painted, chosen; and what is excluded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
