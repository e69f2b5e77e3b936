"""Rows of a model's attention for pixels of an image, each from the few values it depends on."""

from napari_restore.engine.rows._ablation import Report
from napari_restore.engine.rows._cells import PlacedRow
from napari_restore.engine.rows._source import AttentionSource

__all__ = ["AttentionSource", "PlacedRow", "Report"]
