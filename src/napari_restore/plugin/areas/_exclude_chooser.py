"""Chooses the pixels that are excluded: a layer or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Shapes
from qtpy.QtWidgets import QFileDialog, QLabel, QVBoxLayout
from superqt.utils import qdebounced

from napari_restore import api
from napari_restore.errors import BadRegion, RestoreError
from napari_restore.plugin.areas._areas import (
    AREAS,
    EXCLUDED,
    GRADIENT,
    corners_in_pixels,
    outlines,
)
from napari_restore.plugin.areas._strength import is_strength, mask_of_layer
from napari_restore.plugin.layers._layer_watch import LayerWatch
from napari_restore.plugin.state._state import image_of
from napari_restore.plugin.tasks._latest_query import LatestQuery
from napari_restore.plugin.tasks._notices import error_text
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state._state import RestoreState
    from napari_restore.questions import Restore

NOTHING, FILE = "Nothing", "A file …"
FILTER = "Masks (*.tif *.tiff *.png *.geojson *.json);;All files (*)"
DEBOUNCE_MS = 200


class ExcludeChooser(Section):
    """Nothing, the shapes or labels of a layer, or a mask file; writes option `exclude`.

    From a change of the layer until its mask is made, `state.exclude_pending` is set.
    A mask that others set there is chosen as a file.
    """

    TITLE = "Exclude"

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.combo = NarrowComboBox(self)
        self.combo.setToolTip(
            "These pixels stay as they are and do not count when the haze is judged: "
            "clouds, borders, a logo"
        )
        self.message = QLabel(self)
        self.message.setWordWrap(True)
        self.message.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self.message)
        self._chosen: Any = None
        """A layer, a path or None."""
        self._set_mask: str | None = None
        """The mask it has set itself."""
        self._is_making = False
        """Whether it has set `exclude_pending` itself."""
        self._update_soon = qdebounced(self._update, timeout=DEBOUNCE_MS, parent=self)
        self._watch = LayerWatch(self._on_change)
        self._query = LatestQuery("The mask cannot be made", self)
        self._query.finished.connect(self._on_mask)
        self.combo.activated.connect(self._on_activated)
        self.listen(viewer.layers.events.inserted, self._offer)
        self.listen(viewer.layers.events.removed, self._offer)
        self.listen(state.events.layer, self._update)
        self.listen(state.events.options, self._on_options)
        self.listen(state.events.exclude_pending, self._on_pending)
        # An earlier panel may have been closed over a mask, or over one being made.
        self._choose_of_state()

    def choose(self, mask: Any) -> None:
        """Exclude what a layer or a file marks; None excludes nothing."""
        self._update_soon.cancel()
        self._mark(False)
        self._chosen = mask
        self._mark(True)
        self._offer()
        self._update()

    def _mark(self, excluded: bool) -> None:
        """Mark a layer of excluded areas, so that these are not restored as well."""
        if not isinstance(self._chosen, Shapes):
            return
        if excluded:
            self._chosen.metadata[EXCLUDED] = True
            if self._chosen.name == AREAS:
                self._chosen.name = "Excluded"
        else:
            self._chosen.metadata.pop(EXCLUDED, None)

    def leave(self) -> None:
        super().leave()
        self._update_soon.cancel()
        self._watch.follow(None)
        self._query.discard()

    def _offer(self) -> None:
        """Offer the layers there are; a chosen one that has gone is nothing."""
        layers = [layer for layer in self.viewer.layers if _is_mask(layer)]
        gone = self._chosen not in (None, *layers) and not isinstance(self._chosen, Path)
        self.combo.clear()
        self.combo.addItem(NOTHING, None)
        for layer in layers:
            self.combo.addItem(layer.name, layer)
        if isinstance(self._chosen, Path):
            self.combo.addItem(self._chosen.name, self._chosen)
        self.combo.addItem(FILE, FILE)
        if gone:
            self._chosen = None
            self._update()
        self.combo.setCurrentIndex(max(0, self._place(self._chosen)))

    def _place(self, what: Any) -> int:
        # findData would compare layers and paths by what Qt makes of them.
        for number in range(self.combo.count()):
            if self.combo.itemData(number) is what:
                return number
        return -1

    def _on_activated(self) -> None:
        what = self.combo.currentData()
        if what == FILE:
            name, _ = QFileDialog.getOpenFileName(self, "A mask of pixels to exclude", "", FILTER)
            what = Path(name) if name else self._chosen
        self.choose(what)

    def _on_options(self, options: Restore) -> None:
        if options.reading.exclude != self._set_mask:
            self._choose_of_state()

    def _on_pending(self, pending: bool) -> None:
        # The mask that others have set may be the one before.
        if self._is_making and not pending:
            self._choose_of_state()

    def _choose_of_state(self) -> None:
        """Choose the mask of the state."""
        mask = self.state.options.reading.exclude
        self.choose(None if mask is None else Path(mask))

    def _on_change(self) -> None:
        self._set_pending()
        self._update_soon()

    def _set_pending(self) -> None:
        self._is_making = True
        self.state.exclude_problem = None
        self.state.exclude_pending = True

    def _update(self) -> None:
        """Make the mask of what is chosen."""
        chosen, layer = self._chosen, self.state.layer
        self._watch.follow(None if isinstance(chosen, Path) else chosen)
        self._query.discard()
        if chosen is None or isinstance(chosen, Path) or layer is None:
            self._set(str(chosen) if isinstance(chosen, Path) else None)
            return
        try:
            image = image_of(layer)
            if isinstance(chosen, Shapes):
                self._set_drawn(image, outlines(self.viewer, chosen, layer))
            else:
                make = mask_of_layer(chosen, layer, image)
                self._set_pending()
                self._query.submit((id(layer), id(chosen), self._watch.version), make)
        except RestoreError as error:
            self._fail(error)

    def _set_drawn(self, image: Any, drawn: list[Any]) -> None:
        if drawn:
            mask = api.mask_of_polygons(image, [[corners_in_pixels(points)] for points in drawn])
            self._set(str(mask))
        else:
            self._fail(BadRegion("no area is drawn there yet.", "Draw one over the image."))

    def _on_mask(self, _: Any, result: Any) -> None:
        if isinstance(result, RestoreError):
            self._fail(result)
        else:
            self._set(result[0])

    def _fail(self, error: RestoreError) -> None:
        self._set(None, BadRegion(f"Nothing is excluded: {error.message.marked}", error.hint))

    def _set(self, mask: str | None, problem: RestoreError | None = None) -> None:
        self.message.setText("" if problem is None else error_text(problem))
        self.message.setVisible(problem is not None)
        self._set_mask, self._is_making = mask, False
        self.state.exclude_problem = problem
        self.state.set_options(exclude=mask)
        self.state.exclude_pending = False


def _is_mask(layer: Any) -> bool:
    if isinstance(layer, Shapes):
        return GRADIENT not in layer.metadata
    return is_strength(layer)
