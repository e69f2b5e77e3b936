from ._actions import BOUND, panel_of, show_attribution, show_bands
from ._panel import NARROWEST, USUAL, RestorePanel
from ._start import WindowGarbage, load
from ._writer import write_layer

__all__ = [
    "BOUND",
    "NARROWEST",
    "USUAL",
    "RestorePanel",
    "WindowGarbage",
    "load",
    "panel_of",
    "show_attribution",
    "show_bands",
    "write_layer",
]
