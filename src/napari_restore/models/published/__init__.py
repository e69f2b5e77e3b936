"""Networks of others, known by their weights. Cards only; a network loads when used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
