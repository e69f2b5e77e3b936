"""Which pixels a restoration came from: paths, baselines, objectives, sums and methods of others."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
