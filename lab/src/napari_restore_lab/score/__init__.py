"""Evaluation of models on pairs of hazy and clear images: scores, tests, tables, strips."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
