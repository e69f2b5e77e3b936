"""The part of the panel for what bands tell: what the screen shows, indices, the spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtWidgets import QLabel

from napari_restore import api
from napari_restore.plugin.layers.display import shown_bands
from napari_restore.plugin.layers.layer_order import place_above
from napari_restore.plugin.layers.reader import layer_of, show_bands
from napari_restore.plugin.spectral.index_view import IndexView
from napari_restore.plugin.spectral.spectrum_view import SpectrumView
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import column_of, form_layout
from napari_restore.plugin.widgets.section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state.state import RestoreState

NOTHING = "Which bands show what is not known: name them under Image, or choose the sensor."
OTHER = "Other bands"


class SpectralSection(Section):
    """Combinations of bands for image and results, indices before and after, spectrum of a pixel."""

    TITLE: ClassVar[str] = "Bands and indices"
    TIP: ClassVar[str] = "Colours and indices of several bands, as NDVI, and the values of a pixel"

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.combination = NarrowComboBox(
            self, tip="Which bands image and results show as red, green and blue"
        )
        self.hint = QLabel(NOTHING, self, wordWrap=True)
        self.index = IndexView(viewer, state)
        self.spectrum = SpectrumView(viewer, state)
        form = form_layout()
        form.addRow("Show", self.combination)
        column_of(self, form, self.hint, self.index, self.spectrum)
        self.combination.activated.connect(self._on_chosen)
        self.listen(self._offer, state.events.layer, state.events.named)
        self._offer()

    def _offer(self) -> None:
        """Offer the combinations whose bands the image has."""
        layer, image = self.state.layer, self.state.image
        found = {} if image is None else api.combinations(image)
        chosen: tuple[int, ...] = ()
        if layer is not None and image is not None and layer.rgb:
            chosen = shown_bands(layer, image)[:3]
        choices: list[tuple[str, tuple[int, ...]]] = [*found.items()]
        if chosen not in found.values():
            choices.insert(0, ("Band by band" if not chosen else OTHER, chosen))
        self.combination.offer(choices, chosen)
        self.combination.setEnabled(len(choices) > 1)
        self.hint.setVisible(not found)

    def _on_chosen(self) -> None:
        bands: tuple[int, int, int] = self.combination.currentData()
        layer = self.state.layer
        if layer is None or not bands:
            return
        image = self.state.named_image(layer)
        if not layer.rgb:
            self._add(bands)
            return
        show_bands(layer, image, bands, self.viewer)
        for variant in self.state.variants:
            if variant.source is layer:
                variant.shown.show_bands(shown_bands(layer, image))

    def _add(self, bands: tuple[int, int, int]) -> None:
        """Add a layer in colour: napari cannot turn one that steps through bands into one."""
        from napari.layers import Image as ImageLayer

        before = self.state.layer
        assert before is not None
        data, arguments, _ = layer_of(self.state.named_image(before), self.viewer, bands=bands)
        title = self.combination.currentText()
        made = ImageLayer(data, **{**arguments, "name": f"{before.name} ({title.lower()})"})
        camera = self.viewer.scene.camera
        view = camera.center, camera.zoom
        self.viewer.layers.insert(place_above(self.viewer, before), made)
        self.viewer.layers.selection.active = made
        before.visible = False
        # napari shows all of the image where the number of axes changes.
        camera.center, camera.zoom = view
