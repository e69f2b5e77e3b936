"""Photos that are shown whole until the user moves the view."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.images import Image

RGB = {"red", "green", "blue"}
_fits: weakref.WeakKeyDictionary[ViewerModel, _Fit] = weakref.WeakKeyDictionary()


def is_photo(image: Image) -> bool:
    """Return whether `image` is a picture to look at, not a map and no measurement in bands."""
    return image.georeference is None and (image.is_display or set(image.roles) >= RGB)


def show_whole(viewer: ViewerModel, image: Image) -> None:
    """Fit the view to `image`, a photo that is opened just now, once it has its layer.

    It stays fitted while window and docks get their sizes, until the user moves the view.
    """
    fit = _fits.get(viewer)
    if fit is None:
        fit = _fits[viewer] = _Fit(viewer)
    fit.expect(image)


class _Fit:
    """The view of one viewer, as it was fitted to a layer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._expected: Image | None = None
        self._layer: weakref.ref[Layer] | None = None
        self._view: tuple[Any, ...] = ()
        """Zoom and centre when it was fitted."""
        # After napari's own, which count the axes and know the size.
        viewer.layers.events.inserted.connect(self._on_inserted, position="last")
        viewer.canvas.events.size.connect(self._fit_again, position="last")

    def expect(self, image: Image) -> None:
        self._expected = image

    def _on_inserted(self, event: Any) -> None:
        image = self._expected
        if image is not None and event.value.metadata.get("napari_restore") is image:
            self._expected, self._layer = None, weakref.ref(event.value)
            self._fit(event.value)

    def _fit_again(self) -> None:
        viewer, layer = self._viewer(), None if self._layer is None else self._layer()
        if viewer is None or layer is None or layer not in viewer.layers:
            return
        camera = viewer.scene.camera
        if (camera.zoom, camera.center) == self._view:
            self._fit(layer)
        else:
            # From now on it is the user's.
            self._layer = None

    def _fit(self, layer: Layer) -> None:
        viewer = self._viewer()
        assert viewer is not None
        viewer.fit_to_view(layers=[layer])
        self._view = viewer.scene.camera.zoom, viewer.scene.camera.center
