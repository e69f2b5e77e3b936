"""The part of the panel in which a result is compared with its source."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QWidget
from superqt.utils import qdebounced

from napari_restore.errors import RestoreError
from napari_restore.plugin.compare.compared_layers import Compared, LinkedContrast, SideBySide
from napari_restore.plugin.compare.figures_view import FiguresView
from napari_restore.plugin.compare.maps_view import MapsView
from napari_restore.plugin.compare.swipe import Swipe
from napari_restore.plugin.layers.layer_order import FRAME, SOURCE, with_results
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import add_button, column_of, form_layout, row_of
from napari_restore.plugin.widgets.keys import KEYS, with_key
from napari_restore.plugin.widgets.section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.plugin.state.state import RestoreState


KEY = KEYS["blink"].keys
RELEASED_MS = 50
"""A key that is pressed again within this time was not released: X11 repeats it as release and press."""


class Blink:
    """Results are transparent while the key is pressed, or from `press` to `release`.

    They are made clear instead of hidden: napari reads the pixels of a hidden layer
    again when it comes back.
    """

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
    """Swipe, blink, side by side, contrast, figures and maps of the current result.

    Swipe and side by side exclude each other. Both follow the current result: with
    another one they continue with that.
    """

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
