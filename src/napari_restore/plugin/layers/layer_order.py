"""The order of layers: results above their source, the chosen image in front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from napari_restore.plugin.layers.display import answered_bands

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer


LIVE = "Live: "
DRAFT = "Draft: "


def result_name(
    viewer: ViewerModel,
    source: Layer,
    method: str,
    area: str = "",
    *,
    besides: Layer | None = None,
) -> str:
    """Return ``"2: Dark channel prior (whole image) – town"``: number, method, area and image.

    After these ``", bands 3, 2, 1"``, where the user has said which show red, green and blue.

    The first result of a method has no number; a draft is called as what replaces it, and does
    not count, nor does a live result.
    `besides` is a layer whose number is free.
    """
    names = [
        str(layer.name)
        for layer in viewer.layers
        if layer is not besides
        and not str(layer.name).startswith((DRAFT, LIVE))
        and layer.metadata.get("napari_restore_source") == source.unique_id
    ]
    number, label = 1, method
    while any(name.startswith((f"{label} (", f"{label} –")) for name in names):
        number += 1
        # First: napari's list cuts the end off, and often all but the first words.
        label = f"{number}: {method}"
    image = source.metadata.get("napari_restore")
    bands = "" if image is None else answered_bands(image)
    about = f"{source.name}, bands {bands}" if bands else source.name
    return f"{label} ({area}) – {about}" if area else f"{label} – {about}"


SOURCE = "napari_restore_source"
"""In the metadata of a result: the identity of the layer it was made of."""
FRAME = "napari_restore_frame"
"""In the metadata of the layer of a bracket's frame, which also has `SOURCE`."""
ASIDE = "napari_restore_aside"
"""In the metadata of layers that are hidden because another photo is shown."""
HIDDEN = 0.5
"""Share of an image that others cover from which on it counts as hidden."""


def is_source(layer: Layer) -> bool:
    """Return whether `layer` is an image that can be restored, none that was made of another."""
    from napari.layers import Image

    return isinstance(layer, Image) and SOURCE not in layer.metadata


def take_away(viewer: ViewerModel, *layers: Layer | None) -> None:
    """Remove those layers that there are; the user may have removed some."""
    for layer in layers:
        if layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)


@contextmanager
def keeping_active(viewer: ViewerModel) -> Iterator[None]:
    """Let the active layer stay so, whatever is added or removed within ``with``."""
    layers = viewer.layers
    active, before = layers.selection.active, layers._activate_on_insert
    # Not chosen again afterwards only: another one ends the tool that draws in it.
    layers._activate_on_insert = False
    try:
        yield
    finally:
        layers._activate_on_insert = before
    if active is None or active in layers:
        layers.selection.active = active


def keep_on_top(viewer: ViewerModel, *layers: Layer | None) -> None:
    """Move those layers that there are above all others, the last one topmost."""
    own = [layer for layer in layers if layer is not None and layer in viewer.layers]
    if own != list(viewer.layers)[len(viewer.layers) - len(own) :]:
        for layer in own:
            viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))


def bring_to_front(viewer: ViewerModel, image: Layer, *, only_results: bool = False) -> None:
    """Move `image` and its results, or these alone, above the images that hide it; images beside it stay."""
    # One that is hidden because another photo is shown stays where it is.
    if ASIDE in image.metadata:
        return
    layers = viewer.layers
    own = [x for x in with_results(viewer, image) if not (only_results and x is image)]
    above = [
        layers.index(member)
        for other in _hiding(viewer, image)
        for member in with_results(viewer, other)
    ]
    if above and max(above) > min(map(layers.index, own)):
        layers.move_multiple([layers.index(layer) for layer in own], max(above) + 1)


def insert_above(viewer: ViewerModel, source: ImageLayer, layer: ImageLayer) -> None:
    """Put a result's layer above its source and the results that has already, all visible."""
    # One that is there is shown again, and chosen. In a layer that is drawn in, one draws on.
    layer.metadata[SOURCE] = source.unique_id
    mode = getattr(viewer.layers.selection.active, "mode", "pan_zoom")
    with keeping_active(viewer):
        if layer in viewer.layers:
            layer.visible = True
            viewer.layers.move(viewer.layers.index(layer), place_above(viewer, source))
        else:
            viewer.layers.insert(place_above(viewer, source), layer)
    if mode in ("pan_zoom", "transform"):
        viewer.layers.selection.active = layer
    # The order of layers of others is the user's.
    bring_to_front(viewer, source, only_results=source.source.reader_plugin != "napari-restore")


def place_above(viewer: ViewerModel, source: Layer) -> int:
    """Return the number in the list of a layer above `source` and its results."""
    return max(map(viewer.layers.index, with_results(viewer, source))) + 1


def with_results(viewer: ViewerModel, image: Layer) -> list[Layer]:
    """Return `image` and its results, from the lowest to the topmost."""
    known = image.unique_id
    return [x for x in viewer.layers if known in (x.unique_id, x.metadata.get(SOURCE))]


def _hiding(viewer: ViewerModel, image: Layer) -> list[Layer]:
    """Return the visible images above `image` that cover most of its box."""
    # A slice of napari's list would be a list of its own, which listens to its layers.
    above = list(viewer.layers)[viewer.layers.index(image) + 1 :]
    return [x for x in above if x.visible and is_source(x) and _overlap(x, image) >= HIDDEN]


def lie_on_each_other(one: Layer, other: Layer) -> bool:
    """Return whether one of two layers covers most of the other."""
    return max(_overlap(one, other), _overlap(other, one)) >= HIDDEN


def _overlap(other: Layer, image: Layer) -> float:
    """Return the share of the box of `image` in the world, from 0 to 1, that lies in that of `other`."""
    low, high = image.extent.world[:, -2:]
    other_low, other_high = other.extent.world[:, -2:]
    common = np.clip(np.minimum(high, other_high) - np.maximum(low, other_low), 0, None)
    return float(np.prod(common) / max(np.prod(high - low), np.finfo(float).tiny))
