"""A plan carried out in this process: jobs, tiles, sweeps, events."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
