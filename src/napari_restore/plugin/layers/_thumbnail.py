"""Thumbnails of colour layers within the layers' contrast limits, at any bit depth."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

_watched: weakref.WeakSet[ViewerModel] = weakref.WeakSet()
"""Viewers whose new layers get such thumbnails."""


def draw_thumbnails_in(viewer: ViewerModel) -> None:
    """Draw the thumbnails of images that napari-restore opens in `viewer` from now on."""
    if viewer not in _watched:
        _watched.add(viewer)
        viewer.layers.events.inserted.connect(_on_inserted)


def draw_thumbnail_of(layer: ImageLayer) -> None:
    """Keep the thumbnail of a colour layer within its contrast limits and gamma.

    napari 0.9 disregards both in RGB(A) thumbnails: it takes values of RGB that are not uint8
    for colours in [0, 1], so that 16-bit layers saturate, and the high byte of 16-bit RGBA.
    """
    if layer.rgb and layer.dtype != np.uint8:
        layer.events.thumbnail.connect(_on_thumbnail)
        _draw(layer)


def _on_inserted(event: Any) -> None:
    # A result draws its own.
    if "napari_restore" in event.value.metadata:
        draw_thumbnail_of(event.value)


def _on_thumbnail(event: Any) -> None:
    _draw(event.source)


def _draw(layer: ImageLayer) -> None:
    # What napari draws thumbnails from; layer.data would be read again at every change.
    current = layer._slice
    if not current.empty:
        with layer.events.thumbnail.blocker(_on_thumbnail):
            layer.thumbnail = _thumbnail(layer, current.thumbnail.raw)


def _thumbnail(layer: ImageLayer, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return (h, w, rgba) in [0, 1], at most as large as napari's thumbnails, of (y, x, rgb or rgba)."""
    size = np.array(pixels.shape[:2])
    height, width = np.maximum(1, size * (np.array(layer.thumbnail.shape[:2]) / size).min())
    rows, columns = (
        ((np.arange(int(count)) + 0.5) * (length / int(count))).astype(np.intp)
        for count, length in zip((height, width), size, strict=True)
    )
    values = np.asarray(pixels)[np.ix_(rows, columns)].astype(np.float32)
    low, high = layer.contrast_limits
    colours = np.clip((values[..., :3] - low) / (high - low), 0, 1) ** layer.gamma
    alpha = np.full(values.shape[:2], layer.opacity, np.float32)
    if values.shape[2] == 4:
        alpha *= values[..., 3] / (np.iinfo(layer.dtype).max if layer.dtype.kind in "iu" else 1)
    drawn: npt.NDArray[np.float32] = np.dstack([colours, alpha])
    return drawn
