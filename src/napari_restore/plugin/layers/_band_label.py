"""The name of the band that is shown, beside the slider that steps through the bands."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_restore.errors import escape_controls
from napari_restore.plugin.layers._display import Display

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image

_watched: weakref.WeakSet[ViewerModel] = weakref.WeakSet()
"""Viewers whose slider names the band."""


def label_bands_in(viewer: ViewerModel) -> None:
    """Name the band beside the slider of images shown band by band; napari says -3 there.

    The label is that of the viewer's axis: labels of a layer would be the same for every band.
    """
    if viewer in _watched:
        return
    _watched.add(viewer)
    update = partial(_update, weakref.ref(viewer))
    for event in (viewer.dims.events.current_step, viewer.layers.events.inserted):
        # After napari's own, which count the axes.
        event.connect(update, position="last")


def _update(seen: weakref.ref[ViewerModel], _: Any = None) -> None:
    viewer = seen()
    if viewer is None or viewer.dims.ndim != Display.BANDS.ndim:
        return
    for layer in reversed(viewer.layers):
        image = layer.metadata.get("napari_restore")
        if image is not None and Display.of_layer(layer) is Display.BANDS:
            number = min(viewer.dims.current_step[0], image.bands - 1)
            viewer.dims.set_axis_label(0, _title(image, number))
            return


def _title(image: Image, number: int) -> str:
    name = image.descriptions[number] or image.roles[number]
    return f"band {number + 1}" + (f": {escape_controls(name)}" if name else "")
