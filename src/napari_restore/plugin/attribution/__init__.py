"""The panel's tab that asks which pixels made a result."""

from __future__ import annotations

from napari_restore.plugin.attribution._attribution_tab import AttributionTab

__all__ = ["AttributionTab"]
