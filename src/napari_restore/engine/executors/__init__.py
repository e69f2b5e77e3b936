"""Where the tiles of a plan are computed beside this process: the child process, and dask.distributed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
