"""One reader per kind of file, those that wrap others, and the choice of the reader of a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
