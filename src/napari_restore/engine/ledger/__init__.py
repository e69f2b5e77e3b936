"""Crash-safe storage of what a run has done: results, maps and layers, with journals, locks and leases."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
