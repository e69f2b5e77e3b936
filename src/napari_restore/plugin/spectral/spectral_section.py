"""The part of the panel for what bands tell: what the screen shows, indices, the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_restore import api
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.layers.display import shown_bands
from napari_restore.plugin.layers.layer_order import place_above
from napari_restore.plugin.layers.placing import in_data
from napari_restore.plugin.layers.reader import layer_of, show_bands
from napari_restore.plugin.spectral.index_view import IndexView
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets import plots
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import column_of, form_layout
from napari_restore.plugin.widgets.section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image
    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.state.variant import Variant


OPTICAL_NM = 3000.0
"""Wavelength beyond which bands are of heat, not of reflected light."""


@dataclass(frozen=True)
class PixelSpectrum:
    """Values of the bands of one pixel, in the order of wavelengths where these are known."""

    row: int
    column: int
    names: tuple[str, ...]
    places: tuple[float, ...]
    """Wavelengths in nm, or the bands' numbers from 1."""
    is_wavelength: bool
    before: tuple[float, ...]
    """NaN where there is no value."""
    after: tuple[float, ...] | None
    is_reflectance: bool


def spectrum_at(
    image: Image,
    values: api.BandValues,
    row: int,
    column: int,
    variant: Variant | None,
) -> PixelSpectrum:
    """Return the spectrum of a pixel of level 0, of the result where finished; raises `RestoreError`."""
    # It reads one pixel of each, so it is not for the GUI thread.
    kinds, waves = image.described.kinds, image.wavelengths
    light = [n for n in image.data_bands if kinds[n] == "light"] or list(image.data_bands)
    bands = [n for n in light if (waves[n] or 0.0) < OPTICAL_NM] or light
    is_wavelength = all(waves[n] for n in bands)
    if is_wavelength:
        bands.sort(key=lambda n: waves[n] or 0.0)
    box = (row, column, row + 1, column + 1)
    valid = bool(image.read_valid_landed(box)[0, 0])
    after = None
    if variant is not None:
        result = variant.shown.result
        # Of a result of another scale the pixel at its middle, where that is in it.
        y, x = (int((2 * at + 1) * result.image.resampling / 2) for at in (row, column))
        is_inside = y < result.image.height and x < result.image.width
        if is_inside and variant.shown.done.at(np.array([y]), np.array([x]))[0, 0]:
            pixel = result.read_landed((y, x, y + 1, x + 1))
            after = _converted(values, pixel, bands, valid)
    return PixelSpectrum(
        row,
        column,
        tuple(image.descriptions[n] or image.roles[n] or f"band {n + 1}" for n in bands),
        tuple(float(waves[n] or 0.0) if is_wavelength else n + 1.0 for n in bands),
        is_wavelength,
        _converted(values, image.read_landed(box), bands, valid),
        after,
        all(values.is_reflectance[n] for n in bands),
    )


def _converted(
    values: api.BandValues, pixel: Any, bands: list[int], valid: bool
) -> tuple[float, ...]:
    if not valid:
        return (float("nan"),) * len(bands)
    return tuple(float(value[0, 0]) for value in values.convert(pixel, bands))


def is_cheap(image: Image) -> bool:
    """Return whether single pixels are read without asking a server."""
    return image.source.concurrent_reads <= 1


HEIGHT = 150
"""Of the plot, in pixels."""
HOLD = "Shift-click holds the spectrum of a pixel, and lets it go."


class SpectrumPlot(QWidget):
    """Two lines over wavelength, or over the number of the band."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(HEIGHT)
        self.setAccessibleName("Spectrum")
        self.spectrum: PixelSpectrum | None = None

    def show_spectrum(self, spectrum: PixelSpectrum | None) -> None:
        self.spectrum = spectrum
        self.setToolTip("" if spectrum is None else table_of(spectrum))
        self.update()

    def paintEvent(self, _: Any) -> None:
        painter, _text = plots.begin(self)
        shown = self.spectrum
        if shown is None:
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "Point at the image.")
        else:
            lines = [plots.Line("before", shown.places, shown.before, plots.BLUE, has_dots=True)]
            if shown.after is not None:
                dashed = Qt.PenStyle.DashLine
                lines.append(
                    plots.Line("after", shown.places, shown.after, plots.VERMILION, dashed, True)
                )
            low, high = plots.limits_of(lines)
            span = min(shown.places), max(shown.places)
            unit = " nm" if shown.is_wavelength else ""
            what = "reflectance" if shown.is_reflectance else "value"
            painter.drawText(
                QRectF(0, 0, self.width() - plots.RIGHT, plots.TOP), plots.RIGHT_OF, what
            )
            ends = f"{span[0]:g}{unit}", f"{span[1]:g}{unit}"
            plots.draw_plot(painter, self, lines, min(low, 0.0), high, span=span, ends=ends)
        painter.end()


def table_of(shown: PixelSpectrum) -> str:
    """Return names and values as lines of plain text; names come from files."""
    after: Sequence[float | None] = shown.after or (None,) * len(shown.before)
    lines = []
    for name, place, one, other in zip(shown.names, shown.places, shown.before, after, strict=True):
        where = f" {place:g} nm" if shown.is_wavelength else ""
        changed = "" if other is None else f" → {other:.4g}"
        plain = escape_controls(name[:40]).replace("<", "‹")
        lines.append(f"{plain}{where}: {one:.4g}{changed}")
    return "\n".join(lines)


class SpectrumView(Section):
    """Follows the cursor while it is visible, one pixel at a time, on another thread."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.plot = SpectrumPlot(self)
        self.about = QLabel(HOLD, self, wordWrap=True)
        self.is_held = False
        self._values = lru_cache(1)(api.BandValues.of)
        """What the numbers of an image mean, looked up once for each."""
        self._query = LatestQuery("The pixel cannot be read", self, self._on_read, follows=True)
        column_of(self, QLabel("Spectrum", self), self.plot, self.about)
        self.listen(self._on_moved, viewer.cursor.events.position)
        self.listen(self._on_layer, state.events.layer)
        self.listen(self._on_current, state.events.current)
        viewer.mouse_drag_callbacks.append(self._on_pressed)

    def leave(self) -> None:
        if self._on_pressed in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_pressed)

    def _on_layer(self) -> None:
        """Show nothing of the image before."""
        self._query.discard()
        self._hold(False)
        self.plot.show_spectrum(None)

    def _on_current(self) -> None:
        """Read the pixel that is held again, of another result."""
        shown, image = self.plot.spectrum, self._image()
        if shown is not None and image is not None and self.is_held:
            self._read(image, shown.row, shown.column)

    def _hold(self, held: bool) -> None:
        self.is_held = held
        self.about.setText("Held; Shift-click lets it go." if held else HOLD)

    def _image(self) -> Image | None:
        return self.state.image if self.state.layer in self.viewer.layers else None

    def _on_moved(self) -> None:
        if not self.is_held:
            self._read_at(self.viewer.cursor.position, of_click=False)

    def _on_pressed(self, _viewer: Any, event: Any) -> None:
        if "Shift" in event.modifiers and self.isVisible():
            self._hold(not self.is_held)
            self._read_at(event.position, of_click=True)

    def _read_at(self, position: Any, *, of_click: bool) -> None:
        if not self.isVisible() or self.viewer.dims.ndisplay != 2:
            return
        layer, image = self.state.layer, self._image()
        if layer is None or image is None or not (of_click or is_cheap(image)):
            return
        place = np.round(in_data(self.viewer, layer, [np.array(position[-2:])])[0])
        if np.isfinite(place).all() and (place >= 0).all():
            row, column = (int(v) for v in place)
            if row < image.height and column < image.width:
                self._read(image, row, column)

    def _read(self, image: Image, row: int, column: int) -> None:
        layer, current = self.state.layer, self.state.current
        black = self.state.options.reading.black
        variant = current if current is not None and current.source is layer else None
        key = (row, column, id(image), id(variant), black)

        def compute() -> PixelSpectrum:
            return spectrum_at(image, self._values(image, black), row, column, variant)

        self._query.submit(key, compute)

    def _on_read(self, _: Any, answer: PixelSpectrum | RestoreError) -> None:
        # That a file cannot be read is reported where it is shown.
        self.plot.show_spectrum(None if isinstance(answer, RestoreError) else answer)


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
