"""Images that change on disk while a window shows them are read again."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QFileSystemWatcher, QObject
from superqt.utils import qdebounced

import napari_restore as nr
from napari_restore.api import stamp_of
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.layers.display import LIMITS, Display
from napari_restore.plugin.layers.layer_order import is_source
from napari_restore.plugin.layers.reader import STAMPS, layer_of
from napari_restore.plugin.state.state import (
    NAMED,
    UNNAMED,
    Connections,
    image_of,
    named_as,
    unnamed_image,
)
from napari_restore.plugin.tasks.notices import show_note, show_problem
from napari_restore.plugin.tasks.task import in_background

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore.images import Image
    from napari_restore.plugin.state.request import NamedBands

    Opened = tuple[Image, Image]
    Found = Opened | RestoreError

WRITTEN_MS = 400
"""A file that has not changed for so long is taken to be written."""


class DiskWatch(QObject):
    """Opens the file of a layer again once it has changed: pixels, levels and plans are of the new one."""

    # Results that were made before stay as they are. The frames of a bracket are aligned again, by
    # `reopen`.

    reread = psygnal.Signal(object)
    """The layer whose image is another one now."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.reopen: Callable[[ImageLayer, Any], bool] = lambda layer, stamp: False
        """Begins to open the bracket of a layer again, of files with a stamp; returns whether it does."""
        self._opening: weakref.WeakKeyDictionary[Layer, Any] = weakref.WeakKeyDictionary()
        """The stamp of the file that is, or could not be, opened again."""
        self._watcher = QFileSystemWatcher(self)
        # One per object: a decorated method would share one timer among all.
        self._look_soon = qdebounced(self.look, timeout=WRITTEN_MS, parent=self)
        self._watcher.fileChanged.connect(self._look_soon)
        # Many programs write a new file and rename it.
        self._watcher.directoryChanged.connect(self._look_soon)
        layers = viewer.layers.events
        Connections(self, (layers.inserted, self._follow), (layers.removed, self._follow))
        self._follow()
        self._look_soon()

    def leave(self) -> None:
        watched = self._watcher.files() + self._watcher.directories()
        if watched:
            self._watcher.removePaths(watched)

    def look(self) -> None:
        """Open again, on another thread, what has changed."""
        for layer in self._changed():
            stamp = _stamps_now(layer)
            if self._opening.get(layer) != stamp:
                self._opening[layer] = stamp
                if not self.reopen(layer, stamp):
                    self._open(layer, stamp)
        self._follow()

    def bring_up_to_date(self, layer: Layer | None) -> None:
        """Open the file of `layer`, or a bracket, again at once if it has changed; raises `RestoreError`."""
        if layer in self._changed():
            stamp = _stamps_now(layer)
            if self.reopen(layer, stamp):
                self._opening[layer] = stamp
                raise RestoreError(
                    f"{image_of(layer).name} has changed on disk and is being read again.",
                    "Run once that is done.",
                )
            found = _opened(unnamed_image(layer), named_as(layer))
            self._opening[layer] = stamp
            self._on_opened(weakref.ref(layer), stamp, found)

    def show_plane(self, layer: ImageLayer, number: int) -> None:
        """Put plane `number` of the file of `layer` behind it, opened on another thread."""
        self._open(layer, number, number)

    def _open(self, layer: ImageLayer, stamp: Any, plane: int | None = None) -> None:
        """Open the file of a layer again, or another plane of it, on another thread."""
        self._opening[layer] = stamp
        work = partial(_opened, unnamed_image(layer), named_as(layer), plane)
        in_background(work, self._on_opened, weakref.ref(layer), stamp)

    def _follow(self) -> None:
        """Watch the files of all layers, and their folders; a file that was replaced anew."""
        wanted = {str(name) for layer in self._layers() for name in layer.metadata[STAMPS]}
        wanted |= {str(Path(name).parent) for name in wanted}
        known = {*self._watcher.files(), *self._watcher.directories()}
        if gone := sorted(known - wanted):
            self._watcher.removePaths(gone)
        if new := sorted(name for name in wanted - known if Path(name).exists()):
            self._watcher.addPaths(new)

    def _layers(self) -> list[ImageLayer]:
        return [x for x in self._viewer.layers if is_source(x) and STAMPS in x.metadata]

    def _changed(self) -> list[ImageLayer]:
        """Return the layers whose files are there and are others than those that were opened."""
        return [
            layer
            for layer in self._layers()
            if all(Path(name).exists() for name in layer.metadata[STAMPS])
            and _stamps_now(layer) != layer.metadata[STAMPS]
        ]

    def _on_opened(self, known: weakref.ref[ImageLayer], stamp: Any, found: Found) -> None:
        layer = known()
        if layer is None or layer not in self._viewer.layers or self._opening.get(layer) != stamp:
            return
        # The number of another plane is no stamp.
        is_plane = isinstance(stamp, int)
        if is_plane:
            del self._opening[layer]
        if isinstance(found, RestoreError):
            show_problem(found)
        else:
            old, (plain, shown) = image_of(layer), found
            layer = self._replace(layer, plain, shown)
            if not is_plane:
                layer.metadata[STAMPS] = stamp
                old.close()
                show_note(f"{escape_controls(shown.name)} has changed on disk and is read again.")
        if is_plane or not isinstance(found, RestoreError):
            self.reread.emit(layer)

    def put(self, layer: ImageLayer, image: Image, stamps: Any) -> ImageLayer:
        """Put the bracket of frames that were read again behind its layer; see `_replace`."""
        layer = self._replace(layer, image, image)
        layer.metadata[STAMPS] = stamps
        show_note(f"{escape_controls(image.name)}: its frames have changed and are read again.")
        self.reread.emit(layer)
        return layer

    def _replace(self, layer: ImageLayer, plain: Image, shown: Image) -> ImageLayer:
        """Put another image behind `layer`; returns it, or the one in its place where it cannot."""
        by_band = Display.of_layer(layer) == Display.BANDS
        data, arguments, _ = layer_of(shown, self._viewer, band_by_band=by_band)
        metadata = {**layer.metadata, **arguments.pop("metadata")}
        metadata.pop(NAMED, None)
        if UNNAMED in metadata:
            metadata[UNNAMED] = plain
        limits = tuple(arguments["contrast_limits"])
        is_users = tuple(layer.contrast_limits) != tuple(layer.metadata.get(LIMITS, ()))
        if (layer.rgb, layer.multiscale) != (arguments["rgb"], arguments["multiscale"]):
            name, layers = layer.name, self._viewer.layers
            made = type(layer)(data, **{**arguments, "name": name, "metadata": metadata})
            layers.insert(layers.index(layer) + 1, made)
            layers.remove(layer)
            made.name = name
            return made
        layer.metadata = metadata
        layer.data = data
        if "affine" in arguments:
            layer.scale, layer.affine = arguments["scale"], arguments["affine"]
        if not is_users:
            layer.contrast_limits = limits
        return layer


def _stamps_now(layer: ImageLayer) -> dict[str, Any]:
    return {name: stamp_of(name) for name in layer.metadata[STAMPS]}


def _opened(plain: Image, named: NamedBands, plane: int | None = None) -> Opened:
    """Return an image, or another plane of it, opened again, and the same with the user's roles and sensor."""
    assert plain.spec is not None
    spec = plain.spec if plane is None else {**plain.spec, "plane": plane}
    again = type(plain).from_spec(spec)
    return again, nr.open_image(again, **named._asdict())
