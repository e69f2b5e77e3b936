"""The public interface of the package for window, command line and scripts."""

from napari_restore._offered import offered

__getattr__, __dir__, __all__ = offered(__name__, __file__)
