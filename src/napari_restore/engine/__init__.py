"""One bounded-memory tile engine: plans, runs and resumes; knows no model and no window."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
