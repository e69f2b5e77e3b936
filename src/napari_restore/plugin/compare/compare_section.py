"""The part of the panel in which a result is compared with its source."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QWidget
from superqt.utils import qdebounced

from napari_restore import Region
from napari_restore.errors import BadRegion, RestoreError
from napari_restore.metrics import psnr, ssim
from napari_restore.plugin.compare.compared_layers import (
    FAILURE,
    Compared,
    LayerPixels,
    LinkedContrast,
    SideBySide,
    shown_step,
)
from napari_restore.plugin.compare.maps_view import MapsView
from napari_restore.plugin.compare.swipe import Swipe
from napari_restore.plugin.layers.layer_order import FRAME, SOURCE, with_results
from napari_restore.plugin.layers.placing import data_to_world, resampled, visible_region
from napari_restore.plugin.state.state import RestoreState, view_events
from napari_restore.plugin.tasks.notices import error_text, show_problem
from napari_restore.plugin.tasks.task import DebouncedQuery
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import add_button, column_of, form_layout, row_of
from napari_restore.plugin.widgets.keys import KEYS, with_key
from napari_restore.plugin.widgets.section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.plugin.state.variant import Variant


MAX_PIXELS = 2_000_000


class Figures(NamedTuple):
    """PSNR in dB and SSIM of source and result, over the same pixels."""

    source: tuple[float, float]
    result: tuple[float, float]
    step: int
    """Level-0 pixels per pixel compared."""
    pixels: int
    """How many counted."""
    data_range: float
    is_whole: bool
    """Whether all of the region was compared, not only its middle."""

    def text(self) -> str:
        """Return both measures before and after, and what was compared, in three lines."""
        if not self.pixels:
            return "No pixel in view is in the reference and in the result."
        (psnr0, ssim0), (psnr1, ssim1) = self.source, self.result
        part = "visible region" if self.is_whole else "middle of the visible region"
        level = "full resolution" if self.step == 1 else f"level 1:{self.step}"
        return (
            f"PSNR {_number(psnr0, 2)} dB → {_number(psnr1, 2)} dB\n"
            f"SSIM {_number(ssim0, 4)} → {_number(ssim1, 4)}\n"
            f"source → result, {part} at {level}, {self.pixels / 1e6:.2f} MP, "
            f"white − black {self.data_range:g}"
        )


def figures(
    source: LayerPixels,
    result: LayerPixels,
    reference: LayerPixels,
    region: Region,
    step: int,
    data_range: float,
) -> Figures:
    """Compare a level-0 `region` at 1 : `step`; not for the GUI thread."""
    # On the next finer level where one of the three has no such, on a coarser one or on the middle
    # of the region where it has too many pixels. Only pixels that all three have count, so that
    # before and after are of the same.
    layers = (source, result, reference)
    while step > 1 and not all(layer.has(step) for layer in layers):
        step //= 2
    while _count(region, step) > MAX_PIXELS and all(layer.has(2 * step) for layer in layers):
        step *= 2
    part = _middle(region, step)
    parts = [layer.read(part, step) for layer in layers]
    (before, there), (after, there1), (truth, there2) = parts
    valid = there & there1 & there2
    before, after, truth = (part.astype(np.float64) for part in (before, after, truth))
    own, made = (
        (psnr(shown, truth, data_range, valid), ssim(shown, truth, data_range, valid))
        for shown in (before, after)
    )
    return Figures(own, made, step, int(valid.sum()), data_range, part == region)


def _count(region: Region, step: int) -> int:
    return (region.height // step) * (region.width // step)


def _middle(region: Region, step: int) -> Region:
    """Return the middle of a region, of its shape, with at most `MAX_PIXELS`."""
    share = (MAX_PIXELS / max(1, _count(region, step))) ** 0.5
    if share >= 1:
        return region
    height, width = (int(side * share) // step * step for side in region.shape)
    y = region.y0 + (region.height - height) // 2 // step * step
    x = region.x0 + (region.width - width) // 2 // step * step
    return Region(y, x, y + height, x + width)


def references_for(
    viewer: ViewerModel, source: ImageLayer, ratio: Fraction = Fraction(1)
) -> list[ImageLayer]:
    """Return the images that results of `source` can be compared with: of their size, bands and place."""
    *bands, height, width = _shape(source)
    shape = (*bands, int(height * ratio), int(width * ratio))
    own = data_to_world(source)
    # They have `ratio` times as many pixels along a side. Where that is not 1, images that lie on
    # no map have their place, too, where they begin as the source does.
    places = [resampled(own, ratio), own]

    def fits(layer: Any) -> bool:
        return (
            isinstance(layer, ImageLayer)
            and layer is not source
            and "napari_restore_source" not in layer.metadata
            and layer.rgb == source.rgb
            and layer.ndim == source.ndim
            and _shape(layer) == shape
            and any(np.allclose(data_to_world(layer), place) for place in places)
        )

    return [layer for layer in viewer.layers if fits(layer)]


def data_range_of(dtype: np.dtype[Any], record: dict[str, Any] | None) -> float:
    """Return white − black: 255 for bytes, else that of the run, else the range of the type."""
    if dtype == np.uint8:
        return 255.0
    source = (record or {}).get("input", {})
    # Light is shown in the type of the photos.
    is_same = source.get("dtype") in (None, str(dtype))
    if is_same and source.get("white") is not None and source.get("black"):
        return float(source["white"]) - float(min(source["black"]))
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return float(limits.max) - float(limits.min)
    return 1.0


def _shape(layer: ImageLayer) -> tuple[int, ...]:
    """Return the shape of the finest level, without alpha."""
    shape = tuple((layer.data[0] if layer.multiscale else layer.data).shape)
    return shape[:2] if layer.rgb else shape


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


DEBOUNCE_MS = 200
"""Shorter than the time between two refreshes of a running result."""


class FiguresView(Section):
    """A chooser of the reference and the figures, kept current with view and result."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._query = DebouncedQuery(figures, self._show, DEBOUNCE_MS, FAILURE, self)
        tip = "A clear image of the size, bands and place of the result; open it as a layer"
        self.reference = NarrowComboBox(self, tip=tip, name="PSNR / SSIM against")
        self.text = QLabel(self, wordWrap=True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column_of(self, QLabel("PSNR / SSIM against", self), self.reference, self.text)
        self.reference.currentIndexChanged.connect(self.update_figures)
        self.listen(self.update_figures, *view_events(viewer))
        layers = viewer.layers.events
        self.listen(self.offer, layers.inserted, layers.removed, state.events.current)
        self.offer()

    def offer(self) -> None:
        current = self.state.current
        fitting = []
        if current is not None:
            ratio = current.shown.result.image.resampling
            fitting = references_for(self.viewer, current.source, ratio)
        none = "Nothing" if fitting else "No layer of the same size and place"
        names = [(layer.name, layer) for layer in fitting]
        self.reference.offer([(none, None), *names], self.reference.currentData())
        self.update_figures()

    def update_figures(self) -> None:
        """Compute them again soon, on another thread."""
        current, reference = self.state.current, self.reference.currentData()
        if current is None or reference is None:
            self.follow()
            self._query.discard()
            self.text.clear()
            return
        layers = (current.layer, reference)
        self.follow(*((layer.events.set_data, self.update_figures) for layer in layers))
        try:
            self._query.request(*self._order(current, reference))
        except BadRegion as error:
            self._query.discard()
            self.text.setText(error_text(error))
            return
        if not self.text.text():
            self.text.setText("Comparing …")

    def _order(self, current: Variant, reference: ImageLayer) -> tuple[Any, ...]:
        # All in pixels of the result.
        image, box = current.shown.result.image, current.shown.box
        ratio = image.resampling
        source = LayerPixels(current.source, ratio=float(1 / ratio))
        step = shown_step(current.source if ratio == 1 else current.layer)
        view = visible_region(self.viewer, current.source, source.size)
        region = view.scale(ratio).intersect(current.shown.region)
        if region.is_empty:
            raise BadRegion("Nothing of the result is in view.", "Pan back to it.")
        # Whole pixels of the level that is shown.
        region = region.align(step).intersect(Region(0, 0, image.height, image.width))
        return (
            source,
            LayerPixels(current.layer, (box.y0, box.x0)),
            LayerPixels(reference),
            region,
            step,
            data_range_of(source.dtype, current.record),
        )

    def _show(self, found: Figures) -> None:
        self.text.setText(found.text())


KEY = KEYS["blink"].keys
RELEASED_MS = 50
"""A key that is pressed again within this time was not released: X11 repeats it as release and press."""


class Blink:
    """Results are transparent while the key is pressed, or from `press` to `release`."""

    # They are made clear instead of hidden: napari reads the pixels of a hidden layer again when it
    # comes back.
    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        self.viewer = viewer
        self.state = state
        self._opacities: list[tuple[Layer, float]] = []
        self._source: tuple[Layer, bool] | None = None
        """The source and whether it was visible; None while nothing is pressed."""
        self._key_released = qdebounced(self.release, timeout=RELEASED_MS)
        self._former = viewer.bind_key(KEY, self._on_key, overwrite=True)

    def press(self) -> None:
        self._key_released.cancel()
        current = self.state.current
        if self._source is not None or current is None or current.source not in self.viewer.layers:
            return
        source = current.source
        over = [layer for layer in with_results(self.viewer, source) if layer is not source]
        self._opacities = [(layer, layer.opacity) for layer in over]
        for layer in over:
            layer.opacity = 0
        self._source = source, bool(source.visible)
        source.visible = True

    def release(self) -> None:
        self._key_released.cancel()
        for layer, opacity in self._opacities:
            layer.opacity = opacity
        self._opacities.clear()
        if self._source is not None:
            source, visible = self._source
            source.visible = visible
            self._source = None

    def close(self) -> None:
        self.release()
        self.viewer.bind_key(KEY, self._former, overwrite=True)

    def _on_key(self, viewer: Any) -> Generator[None, None, None]:
        self.press()
        yield
        self._key_released()


NOTHING = "Run a method first: its result is compared with the source."
REMOVED = "The image of this result was removed. Open it again and run to compare."


class CompareSection(Section):
    """Swipe, blink, side by side, contrast, figures and maps of the current result."""

    # Swipe and side by side exclude each other. Both follow the current result: with another one
    # they continue with that.

    TITLE = "Compare"
    TIP = "Before and after: a line to drag, a key to hold, what has changed"

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._way: Swipe | SideBySide | None = None
        """How they are compared on the screen now."""
        self._column: float | None = None
        self._blink = Blink(viewer, state)
        self._contrast = LinkedContrast()
        self.figures = FiguresView(viewer, state)
        self.maps = MapsView(viewer, state)
        self._build()
        self.listen(self._on_variants, state.events.variants)
        self.listen(self._on_current, state.events.current)
        self.listen(self._on_layers, viewer.layers.events.inserted, viewer.layers.events.removed)
        self._on_variants()

    def _build(self) -> None:
        self.other = NarrowComboBox(
            self, tip="What the current result is compared with", name="With"
        )
        tip = with_key("Drag a line over the image: left before, right after. Esc ends", "swipe")
        self.swipe = add_button(self, "Swipe", tip, checkable=True)
        tip = "Before and after beside each other, moving together"
        self.sides = add_button(self, "Side by side", tip, checkable=True)
        tip = f"Shows the source while pressed; on the image hold the key {KEY} instead"
        self.hold = add_button(self, f"Hold for source ({KEY})", tip)
        self.link = QCheckBox("Same contrast", self)
        self.link.setChecked(True)
        self.link.setToolTip(
            "Source and results share contrast limits, gamma and, if grey, the colormap"
        )
        self.hint = QLabel(NOTHING, self, wordWrap=True)
        form, ways = form_layout(), row_of(self.swipe, self.sides)
        form.addRow("With", self.other)
        self._content = QWidget(self)
        column_of(self._content, form, ways, self.hold, self.link, self.figures, self.maps)
        column_of(self, self.hint, self._content)
        for way in (self.swipe, self.sides):
            way.toggled.connect(partial(self._on_way, way))
        self.hold.pressed.connect(self._blink.press)
        self.hold.released.connect(self._blink.release)
        self.link.toggled.connect(self._on_variants)
        self.other.currentIndexChanged.connect(self._restart)

    def leave(self) -> None:
        self._end()
        self._blink.close()
        self._contrast.close()

    # -- the current result -----------------------------------------------------------

    def _on_variants(self) -> None:
        self._contrast.follow(self.state.variants if self.link.isChecked() else ())
        self._on_current()

    def _on_current(self) -> None:
        """Offer the source, other results of the same source, and frames of a bracket shown."""
        self._allow()
        chosen, others = self._other(), self._offered()
        names = [(str(other.layer.name), other) for other in others]
        self.other.offer([("Source", None), *names], chosen)
        self._restart()

    def _offered(self) -> list[Compared]:
        """Return what the current result can be compared with, but for its source."""
        current = self.state.current
        if current is None:
            return []
        results = [
            Compared.of(variant)
            for variant in self.state.variants
            if variant is not current and variant.source is current.source
        ]
        frames = [
            Compared(layer)
            for layer in self.viewer.layers
            if FRAME in layer.metadata and layer.metadata.get(SOURCE) == current.source.unique_id
        ]
        return results + frames

    def _on_layers(self, event: Any) -> None:
        current = self.state.current
        if FRAME in event.value.metadata:
            self._on_current()
        if current is not None and event.value is current.source:
            self._allow()
            if not self._content.isEnabled():
                self._end()

    def _allow(self) -> None:
        """Disable everything without a result, or without its source."""
        current = self.state.current
        there = current is not None and current.source in self.viewer.layers
        self.hint.setText(NOTHING if current is None else REMOVED)
        self.hint.setVisible(not there)
        self._content.setEnabled(there)

    def _restart(self) -> None:
        """Begin again with what is compared now."""
        swiping, beside = self.swipe.isChecked(), self.sides.isChecked()
        if not (swiping or beside):
            return
        self._end()
        if self._content.isEnabled():
            self.swipe.setChecked(swiping)
            self.sides.setChecked(beside)

    # -- swipe and side by side --------------------------------------------------

    def _on_way(self, button: QPushButton, checked: bool) -> None:
        """Begin what a button stands for, in place of the other way; end it where it is released."""
        self._end()
        current, other = self.state.current, self._other()
        if not checked:
            return
        if current is None:
            button.setChecked(False)
            return
        left = current.source if other is None else other.layer
        try:
            if button is self.swipe:
                self._way = Swipe(self.viewer, current, other, self._column, self)
            else:
                self._way = SideBySide(self.viewer, left, current.layer)
        except RestoreError as error:
            button.setChecked(False)
            show_problem(error)
        else:
            self._way.ended.connect(partial(self._on_ended, button))

    def _other(self) -> Compared | None:
        other: Compared | None = self.other.currentData()
        return other

    def _end(self) -> None:
        if self._way is not None:
            self._way.end()

    def _on_ended(self, button: QPushButton) -> None:
        way, self._way = self._way, None
        if isinstance(way, Swipe):
            # The next swipe of this source begins where this one ended.
            self._column = way.column
        button.setChecked(False)
