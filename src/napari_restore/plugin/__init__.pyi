from ._actions import (
    BOUND as BOUND,
    panel_of as panel_of,
    show_attribution as show_attribution,
    show_bands as show_bands,
)
from ._panel import NARROWEST as NARROWEST, USUAL as USUAL, RestorePanel as RestorePanel
from ._start import WindowGarbage as WindowGarbage, load as load
from ._writer import write_layer as write_layer
