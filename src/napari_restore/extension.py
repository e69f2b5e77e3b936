"""What napari-restore-lab builds on: the names of its stub, each from the part that it is of."""

from napari_restore._stub_names import names_of_stub

# When it is used first: the options of a command need no torch.
__getattr__, __dir__, __all__ = names_of_stub(__name__, __file__)
