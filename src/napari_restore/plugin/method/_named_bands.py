"""Shows an image in colour once the user has named its bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_restore.plugin.areas._areas import TARGETS_OF
from napari_restore.plugin.areas._strength import PAINT
from napari_restore.plugin.layers._display import colour_bands
from napari_restore.plugin.layers._layer_order import SOURCE
from napari_restore.plugin.layers._reader import layer_of
from napari_restore.plugin.state._state import UNNAMED, image_of, unnamed_image

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.images import Image

COLOUR = " (colour)"


def add_in_colour(viewer: ViewerModel, layer: ImageLayer, named: Image) -> ImageLayer | None:
    """Add a layer that shows `named`, the image of `layer` with the user's roles, in colour.

    It lies above `layer` and what was made of it, for napari cannot turn a layer into one in
    colour. None where not all three are named, or `layer` shows them already.
    """
    from napari.layers import Image as ImageLayer

    shown = image_of(layer)
    found = colour_bands(named)
    if not found or (layer.rgb and colour_bands(shown) == found):
        return None
    data, arguments, _ = layer_of(named, viewer)
    arguments["metadata"] = {
        **layer.metadata,
        **arguments["metadata"],
        UNNAMED: unnamed_image(layer),
    }
    name = arguments["name"] = str(layer.name)
    if is_needed(viewer, layer):
        arguments["name"] = name.removesuffix(COLOUR) + COLOUR
    else:
        # Names are unique, and the new layer is what the old one was.
        layer.name = f"{name} (bands)"
    made = ImageLayer(data, **arguments)
    layers, known = viewer.layers, layer.unique_id
    own = [x for x in layers if known in (x.unique_id, x.metadata.get(SOURCE))]
    layers.insert(max(map(layers.index, own)) + 1, made)
    return made


def is_needed(viewer: ViewerModel, layer: ImageLayer) -> bool:
    """Return whether results, attribution targets or paint in the viewer belong to `layer`."""
    known = layer.unique_id
    return any(
        known in (other.metadata.get(key) for key in (SOURCE, TARGETS_OF, PAINT))
        for other in viewer.layers
    )
