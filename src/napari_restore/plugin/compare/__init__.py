"""Before and after: swipe, blink, side by side, figures and side maps.

Nothing here runs a model: it reads the pixels of source and results.
"""

from napari_restore.plugin.compare._compare_section import CompareSection

__all__ = ["CompareSection"]
