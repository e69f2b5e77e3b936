"""File access shared by readers and writers: GDAL's datasets, TIFF directories, photo tags."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
