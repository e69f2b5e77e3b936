"""The tab for exposure fusion: the frames of a bracket, and their picture as it is restored."""

from napari_restore.plugin.fusion._fusion_tab import FusionTab

__all__ = ["FusionTab"]
