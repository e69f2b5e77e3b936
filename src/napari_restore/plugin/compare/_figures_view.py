"""Shows PSNR and SSIM against a layer that the user chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin._notices import error_text
from napari_restore.plugin.compare._compared_layers import Compared
from napari_restore.plugin.compare._figures import (
    Figures,
    data_range_of,
    figures,
    references_for,
)
from napari_restore.plugin.compare._pixels import FAILURE, LayerPixels, shown_step
from napari_restore.plugin.layers._visible import visible_region
from napari_restore.plugin.threads._latest_query import DebouncedQuery
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.results._variant import Variant

DEBOUNCE_MS = 200
"""Shorter than the time between two refreshes of a running result."""


class FiguresView(Section):
    """A chooser of the reference and the figures, kept current with view and result."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._watched: tuple[ImageLayer, ...] = ()
        self._query = DebouncedQuery(figures, self._show, DEBOUNCE_MS, FAILURE, self)
        self.reference = NarrowComboBox(self)
        self.reference.setToolTip(
            "A clear image of the same size, bands and place; open it as a layer"
        )
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("PSNR / SSIM against", self))
        layout.addWidget(self.reference)
        layout.addWidget(self.text)
        self.reference.currentIndexChanged.connect(self.update_figures)
        camera = viewer.scene.camera.events
        for event in (camera.center, camera.zoom, viewer.canvas.events.size):
            self.listen(event, self.update_figures)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            self.listen(event, self.offer)
        self.listen(state.events.current, self.offer)
        self.offer()

    def leave(self) -> None:
        self._query.discard()
        self._watch(())
        super().leave()

    def offer(self) -> None:
        """Offer the layers that fit the source of the current result."""
        current = self.state.current
        fitting = references_for(self.viewer, current.source) if current is not None else []
        chosen = self.reference.currentData()
        self.reference.blockSignals(True)
        self.reference.clear()
        self.reference.addItem(
            "Nothing" if fitting else "No layer of the same size and place", None
        )
        for layer in fitting:
            self.reference.addItem(layer.name, layer)
        self.reference.setCurrentIndex(fitting.index(chosen) + 1 if chosen in fitting else 0)
        self.reference.blockSignals(False)
        self.update_figures()

    def update_figures(self) -> None:
        """Compute them again soon, on another thread."""
        current, reference = self.state.current, self.reference.currentData()
        if current is None or reference is None:
            self._watch(())
            self._query.discard()
            self.text.clear()
            return
        self._watch((current.layer, reference))
        try:
            self._query.request(*self._order(current, reference))
        except BadRegion as error:
            self._query.discard()
            self.text.setText(error_text(error))
            return
        if not self.text.text():
            self.text.setText("Comparing …")

    def _order(self, current: Variant, reference: ImageLayer) -> tuple[Any, ...]:
        source = LayerPixels(current.source)
        step = shown_step(current.source)
        view = visible_region(self.viewer, current.source, source.size)
        region = view.intersect(current.shown.region)
        if region.is_empty:
            raise BadRegion("Nothing of the result is in view.", "Pan back to it.")
        height, width = source.size
        # Whole pixels of the level that is shown.
        region = region.align(step).intersect(Region(0, 0, height, width))
        return (
            source,
            LayerPixels(*Compared.of(current)),
            LayerPixels(reference),
            region,
            step,
            data_range_of(source.dtype, current.record),
        )

    def _show(self, found: Figures) -> None:
        self.text.setText(found.text())

    def _watch(self, layers: tuple[ImageLayer, ...]) -> None:
        """Follow new pixels of just these."""
        if layers == self._watched:
            return
        for layer in self._watched:
            layer.events.set_data.disconnect(self.update_figures)
        for layer in layers:
            layer.events.set_data.connect(self.update_figures)
        self._watched = layers
