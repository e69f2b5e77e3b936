from ._model import CutModel, cut_into_sweeps
from ._trace import Uncut

__all__ = ["CutModel", "Uncut", "cut_into_sweeps"]
