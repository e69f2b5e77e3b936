"""Attention: what each head of a network looks at for a pixel, in a tab of its own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
