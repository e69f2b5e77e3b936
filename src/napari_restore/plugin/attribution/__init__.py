"""The Attribution tab: which pixels of the image made a part of the result."""

from __future__ import annotations

from napari_restore.plugin.attribution._attribution_tab import AttributionTab

__all__ = ["AttributionTab"]
