"""What napari-restore-lab builds on: the names of its stub, each from the part that it is of."""

from napari_restore._offered import offered

# When it is used first: the options of a command need no torch.
__getattr__, __dir__, __all__ = offered(__name__, __file__)
