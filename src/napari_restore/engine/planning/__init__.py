"""What a run will do: its tiles, its cost and its budget, decided before it starts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
