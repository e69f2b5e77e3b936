"""The public interface of the package for window, command line and scripts."""

from napari_restore._stub_names import names_of_stub

__getattr__, __dir__, __all__ = names_of_stub(__name__, __file__)
