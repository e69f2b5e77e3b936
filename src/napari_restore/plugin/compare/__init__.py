"""Before and after: swipe, blink, side by side, figures and side maps.

Nothing here runs a model: all of it looks at pixels that are there.
"""

from napari_restore.plugin.compare._compare_section import CompareSection

__all__ = ["CompareSection"]
