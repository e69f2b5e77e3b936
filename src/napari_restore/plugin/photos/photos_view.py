"""Thumbnails of the photos that are open; the chosen one is shown alone, with its results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import (
    QListView,
    QListWidget,
    QListWidgetItem,
    QMainWindow,
    QProgressBar,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_restore.api import brackets, is_image_in_folder, open_image
from napari_restore.errors import RestoreError
from napari_restore.plugin.layers.layer_order import (
    ASIDE,
    SOURCE,
    bring_to_front,
    is_source,
    lie_on_each_other,
    with_results,
)
from napari_restore.plugin.layers.placing import fit_to
from napari_restore.plugin.layers.reader import images_at
from napari_restore.plugin.tasks.notices import show_note
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.tasks.waiting_dialog import ask
from napari_restore.plugin.widgets.folding import add_button, column_of, row_of
from napari_restore.plugin.widgets.plots import pixmap_of
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

if TYPE_CHECKING:
    from uuid import UUID

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore.plugin.state.state import RestoreState

SIDE = 48
"""Width and height in pixels of a thumbnail."""
MARGIN = 14
SHOWN = 3
"""Names that are listed of images that were not opened."""


PAUSE_MS = 20
"""Between two images that are opened, in which the window draws and takes clicks."""


class Opener(QWidget):
    """Opens what is dropped on the window, one image after another, while the window goes on."""

    fused = Signal(list)
    """Paths of photos that are to be fused."""

    def __init__(self, viewer: ViewerModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._waiting: list[str] = []
        self._failed: list[str] = []
        self._count = 0
        self._soon = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._soon.timeout.connect(self._open_next)
        self.message = WrappedLabel("", self)
        self.progress = QProgressBar(self)
        self.progress.setMinimumWidth(1)
        self.cancel = add_button(self, "Cancel", "Open no more; what is open stays", self.stop)
        column_of(self, self.message, row_of(self.progress, self.cancel))
        self.hide()

    def watch(self, window: QMainWindow) -> None:
        """Take what is dropped on the canvas of a window, too."""
        canvas = window.centralWidget()
        for each in (canvas, *canvas.findChildren(QWidget)) if canvas is not None else ():
            if each.acceptDrops():
                each.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Take drops on the canvas, and leave the others to napari."""
        return event.type() == QEvent.Type.Drop and self.take(event, on_canvas=True)

    def take(self, event: Any, *, on_canvas: bool = False) -> bool:
        """Open what is dropped; False for what napari opens by itself."""
        urls = event.mimeData().urls()
        paths = [url.toLocalFile() for url in urls if url.isLocalFile()]
        # With a key napari stacks, or asks for the plugin.
        with_others = len(paths) < len(urls) or event.modifiers()
        if not paths or (on_canvas and (with_others or not _is_ours(paths))):
            return False
        event.acceptProposedAction()
        self.open(paths)
        return True

    def open(self, paths: Sequence[str]) -> None:
        """Open images and those in folders; photos that are brackets only after a question."""
        images = [image for path in paths for image in images_at(path)]
        if others := [Path(path).name for path in paths if not images_at(path)]:
            more = f" and {len(others) - 1} more hold" if others[1:] else " holds"
            show_note(f"{others[0]}{more} no image that can be opened.")
        if len(images) > 1 and all(is_image_in_folder(Path(path)) for path in images):
            known = [path for path in paths if images_at(path)]
            in_background(partial(_brackets_among, images), self._ask, known, images)
        else:
            self._begin(images)

    def _ask(self, paths: list[str], images: list[str], found: int | RestoreError) -> None:
        """Ask what the photos are, where times and exposures do not tell that they are no bracket."""
        if not found or isinstance(found, RestoreError):
            self._begin(images)
            return
        fuse, each = "One bracket" if found == 1 else f"{found} brackets", "Each by itself"
        text = f"{len(images)} photos: {fuse.lower()}, or {each.lower()}?"
        about = "Fuse makes one picture of a bracket: exposures of one scene."
        answer = ask(self.window(), "Open photos", text, about, fuse, each, "Cancel")
        if answer == fuse:
            self.fused.emit(paths)
        elif answer == each:
            self._begin(images)

    def _begin(self, images: list[str]) -> None:
        if images:
            self._count += len(images)
            self._waiting += images
            self._show()

    def _show(self) -> None:
        number = self._count - len(self._waiting) + 1
        self.message.setText(f"Opening {number} of {self._count}: {Path(self._waiting[0]).name}")
        self.progress.setRange(0, self._count)
        self.progress.setValue(number - 1)
        self.setVisible(self._count > 1)
        self._soon.start()

    def _open_next(self) -> None:
        path = self._waiting.pop(0)
        if not self._viewer.open(path, plugin="napari-restore"):
            self._failed.append(Path(path).name)
        if self._waiting:
            self._show()
        else:
            self.stop()

    def stop(self) -> None:
        """Open no more, and say what was not opened."""
        self._soon.stop()
        self.hide()
        left = [*self._failed, *(Path(path).name for path in self._waiting)]
        if left and self._count > 1:
            opened = self._count - len(left)
            show_note(f"{opened} of {self._count} images opened; not {', '.join(left[:SHOWN])}.")
        self._waiting, self._failed, self._count = [], [], 0


def _is_ours(paths: list[str]) -> bool:
    """Return whether napari would not open what is dropped, or not one image after another."""
    if any(map(images_at, paths)):
        return images_at(paths[0]) != paths
    known = PluginManager.instance().iter_compatible_readers(paths[0])
    # napari takes any folder for a stack.
    ours = {"napari-restore", *(["napari"] if Path(paths[0]).is_dir() else [])}
    return len(paths) == 1 and {reader.plugin_name for reader in known} <= ours


def _brackets_among(photos: list[str]) -> int:
    """Return how many brackets photos are; 0 for maps."""
    if not open_image(photos[0]).is_photo:
        return 0
    return sum(len(each.paths) > 1 for each in brackets(photos, singles=True))


class PhotosView(Section):
    """Shows one photo at a time: photos have no place on the ground, and would lie on each other."""

    # The state's layer, where that is a photo, is shown and fitted, with its results; other photos
    # that lie on it are hidden with theirs, and come back when they are chosen, where they were in
    # the list. Layers that the user has hidden himself stay hidden. In napari's grid all are seen.
    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._layers: list[ImageLayer] = []
        self._known: set[UUID] = set()
        """The identities of all photos there have been."""
        self._shown: ImageLayer | None = None
        self._is_fitting = False
        # Later: Qt's model of the layers must not move rows while napari changes their list. A timer of
        # its own, as PyQt's `singleShot` takes no object that the call ends with.
        self._soon = QTimer(self, singleShot=True)
        self._soon.timeout.connect(self.show_chosen)
        self.list = QListWidget(self)
        self.list.setViewMode(QListView.ViewMode.IconMode)
        self.list.setFlow(QListView.Flow.LeftToRight)
        self.list.setWrapping(False)
        self.list.setMovement(QListView.Movement.Static)
        self.list.setUniformItemSizes(True)
        self.list.setIconSize(QSize(SIDE, SIDE))
        self.list.setGridSize(QSize(SIDE + MARGIN // 2, SIDE + MARGIN // 2))
        self.list.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFixedHeight(SIDE + MARGIN)
        self.list.horizontalScrollBar().rangeChanged.connect(self._make_room)
        # As narrow as the panel may be.
        self.list.setMinimumWidth(1)
        self.list.setAccessibleName("Photos")
        tip = "The photos that are open: the chosen one is shown and restored"
        self.list.setToolTip(f"{tip}; Control or Shift and a click select several")
        self.list.setSelectionMode(QListView.SelectionMode.ExtendedSelection)
        self.list.currentRowChanged.connect(self._on_row)
        self.list.itemSelectionChanged.connect(self._on_selected)
        column_of(self, self.list)
        self.hide()
        self.listen(self._on_layers, viewer.layers.events.inserted, viewer.layers.events.removed)
        self.listen(self._on_chosen, state.events.layer)
        self.listen(self._on_home, viewer.events.reset_view)
        self.listen(self._on_grid, viewer.canvas.grid.events.enabled)
        self._on_layers()

    def leave(self) -> None:
        self._show_all()

    # -- the list ------------------------------------------------------------------

    def _make_room(self, _: int, most: int) -> None:
        """Grow by the scroll bar where there are more photos than have room."""
        height = self.list.horizontalScrollBar().sizeHint().height() if most else 0
        self.list.setFixedHeight(SIDE + MARGIN + height)

    def _on_layers(self, _: Any = None) -> None:
        found = [layer for layer in self.viewer.layers if _is_photo(layer)]
        # In the order of opening: that of the viewer changes with what is in front.
        kept = [layer for layer in self._layers if layer in found]
        self._show([*kept, *(layer for layer in found if layer not in kept)])
        if self._shown not in found:
            self._shown = None
        self._on_chosen()

    def _show(self, layers: list[ImageLayer]) -> None:
        """List these layers, and no others."""
        if layers == self._layers:
            return
        self._layers = layers
        events = [event for x in layers for event in (x.events.thumbnail, x.events.name)]
        self.follow(*((event, self._on_thumbnail) for event in events))
        self._known |= {layer.unique_id for layer in layers}
        with signals_blocked(self.list):
            self.list.clear()
            for layer in layers:
                self.list.addItem(QListWidgetItem())
                self._draw(layer)
        self.setVisible(len(layers) > 1)

    def _on_thumbnail(self, event: Any) -> None:
        if event.source in self._layers:
            self._draw(event.source)

    def _draw(self, layer: ImageLayer) -> None:
        item = self.list.item(self._layers.index(layer))
        if item is not None:
            pixmap = _pixmap(layer)
            icon = QIcon(pixmap)
            # Otherwise Qt tints the chosen one.
            icon.addPixmap(pixmap, QIcon.Mode.Selected)
            item.setIcon(icon)
            item.setToolTip(str(layer.name))
            item.setData(Qt.ItemDataRole.AccessibleTextRole, str(layer.name))

    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self._layers):
            self.viewer.layers.selection.active = self._layers[row]

    def _on_selected(self) -> None:
        """Select the layers of several photos: what is done to those selected is done to them."""
        chosen = [self._layers[index.row()] for index in self.list.selectedIndexes()]
        if len(chosen) > 1:
            self.viewer.layers.selection = chosen

    # -- what is shown -----------------------------------------------------------------

    def _on_chosen(self, _: Any = None) -> None:
        layer = self.state.layer
        if layer not in self._layers:
            return
        row = self._layers.index(layer)
        if row != self.list.currentRow():
            with signals_blocked(self.list):
                self.list.setCurrentRow(row)
        self._soon.start(0)

    def show_chosen(self) -> None:
        """Show the photo that is chosen; of anything else nothing is hidden or moved."""
        self._soon.stop()
        layer = self.state.layer
        if layer is None or layer not in self._layers or layer not in self.viewer.layers:
            return
        is_other = layer is not self._shown
        self._shown = layer
        if self.viewer.canvas.grid.enabled:
            return
        others = [x for x in self._others(layer) if lie_on_each_other(x, layer)]
        for each in others:
            if each.visible:
                each.metadata[ASIDE] = True
                each.visible = False
        if is_other:
            # Of maps, which stay visible: photos keep their order, and come back in it.
            bring_to_front(self.viewer, layer)
        for each in with_results(self.viewer, layer):
            if each.metadata.pop(ASIDE, False):
                each.visible = True
        if others and is_other:
            layer.visible = True
            self._take_result()
            self._fit(layer)

    def _others(self, layer: ImageLayer) -> list[Layer]:
        """Return the other photos and their results, also those whose photo was removed."""
        own = with_results(self.viewer, layer)
        # Left alone: results of maps, what is no picture, such as areas, and what tools draw.
        pictures = [x for x in self.viewer.layers if isinstance(x, Image) and x not in own]
        return [x for x in pictures if x in self._layers or x.metadata.get(SOURCE) in self._known]

    def _take_result(self) -> None:
        """Adjust, compare and export a result of the photo that is seen, none of another."""
        current = self.state.current
        if current is None or current.source is not self._shown:
            own = [each for each in self.state.variants if each.source is self._shown]
            self.state.current = own[-1] if own else None

    def _on_grid(self, _: Any = None) -> None:
        """Show what is hidden for another photo while each has a place of its own."""
        if self.viewer.canvas.grid.enabled:
            self._show_all()
        else:
            self._on_chosen()

    def _show_all(self) -> None:
        for layer in self.viewer.layers:
            if layer.metadata.pop(ASIDE, False):
                layer.visible = True

    def _on_home(self, _: Any = None) -> None:
        """Fit what is seen: napari's Home fits the layers that are hidden, too."""
        shown = self._shown
        if self._is_fitting or shown is None or self.viewer.canvas.grid.enabled:
            return
        if any(layer.metadata.get(ASIDE) for layer in self._layers):
            self._fit(shown)

    def _fit(self, layer: ImageLayer) -> None:
        self._is_fitting = True
        try:
            fit_to(self.viewer, layer)
        finally:
            self._is_fitting = False


def _is_photo(layer: Any) -> bool:
    """Return whether `layer` is a photo that was opened from a file: arrays of others are not hidden."""
    image = layer.metadata.get("napari_restore") if is_source(layer) else None
    return image is not None and image.path is not None and image.is_photo


def _pixmap(layer: ImageLayer) -> QPixmap:
    """Return a layer's thumbnail, which napari draws small."""
    pixels = np.ascontiguousarray(layer.thumbnail[..., :4])
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255).clip(0, 255).astype(np.uint8)
    return pixmap_of(pixels).scaled(
        SIDE,
        SIDE,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
