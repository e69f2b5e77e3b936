"""Budgets of memory, devices, threads and precisions, and what fails for lack of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
