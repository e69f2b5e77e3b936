"""Tone and colour of the current result of a photo, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QLabel, QSlider, QWidget
from superqt.utils import signals_blocked

from napari_restore import Region
from napari_restore.errors import BadRegion, RestoreError
from napari_restore.plugin.compare.compared_layers import within
from napari_restore.plugin.layers.canvas_tool import CanvasTool
from napari_restore.plugin.layers.placing import in_data, visible_region
from napari_restore.plugin.results._adjusting_section import NOTHING, AdjustingSection
from napari_restore.plugin.results._histogram_view import Histogram, HistogramView
from napari_restore.plugin.state.state import Connections, RestoreState, view_events
from napari_restore.plugin.tasks.notices import show_note, show_problem, with_labels
from napari_restore.plugin.tasks.task import DebouncedQuery, in_background
from napari_restore.plugin.widgets.folding import add_button, column_of, form_layout, row_of
from napari_restore.questions import NEUTRAL_KELVIN, TONE, Adjustment, options_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image
    from napari_restore.plugin.state.variant import Variant

COLOUR_SLIDERS = {"tint": "Tint", "saturation": "Saturation"}
TONE_SLIDERS = {
    "highlights": "Highlights",
    "shadows": "Shadows",
    "local_contrast": "Local contrast",
}
"""Labels of fields of an `Adjustment`."""
GREY = "Click in the picture on something that should be grey, to set temperature and tint; Escape leaves it"
BACK = "Double click sets it back"
SPOT = 5
"""Side in pixels of the picture from which grey is picked."""
NEUTRAL = 1e6 / NEUTRAL_KELVIN
"""In mired, in which equal steps look alike."""
HISTOGRAM_MS, HISTOGRAM_PIXELS = 150, 400_000
WITHOUT_BUTTONS = """
QDoubleSpinBox { min-width: 62px; padding: 1px 4px; }
QDoubleSpinBox::up-button, QDoubleSpinBox::down-button { width: 0px; }
QDoubleSpinBox::up-arrow, QDoubleSpinBox::down-arrow { image: none; width: 0px; }
"""


class NumberSlider(QWidget):
    """A slider of whole steps, and beside it its number, which may have more digits."""

    valueChanged = Signal(float)
    neutral: ClassVar[float] = 0
    """What a double click on the slider sets it back to."""

    def __init__(self, least: float, most: float, parent: QWidget, suffix: str = "") -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setRange(self._place_of(least), self._place_of(most))
        self.slider.setPageStep(10)
        self.slider.installEventFilter(self)
        self.box = _NumberBox(self)
        self.box.setRange(least, most)
        self.box.setSuffix(suffix)
        self.setLayout(row_of(self.slider, self.box))
        self.slider.valueChanged.connect(self._on_slider)
        self.box.valueChanged.connect(self._on_box)

    def name(self, label: str, unit: str = "number") -> None:
        """Set what a screen reader says."""
        self.slider.setAccessibleName(label)
        self.box.setAccessibleName(f"{label} as a {unit}")

    def setToolTip(self, tip: str) -> None:
        """Set that of its parts, with how it is set back."""
        super().setToolTip(f"{tip}. {BACK}")
        for each in (self.slider, self.box):
            each.setToolTip(self.toolTip())

    def value(self) -> float:
        return float(self.box.value())

    def setValue(self, value: float) -> None:
        self.box.setValue(value)

    def _place_of(self, value: float) -> int:
        """Return where the slider is for a value."""
        return round(value)

    def _value_at(self, place: int) -> float:
        return place

    def _on_slider(self, place: int) -> None:
        self.box.setValue(self._value_at(place))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Set it back where the slider is double clicked."""
        if event.type() == QEvent.Type.MouseButtonDblClick:
            self.setValue(self.neutral)
            return True
        return bool(super().eventFilter(watched, event))

    def _on_box(self, value: float) -> None:
        with signals_blocked(self.slider):
            self.slider.setValue(self._place_of(value))
        self.valueChanged.emit(value)


class _NumberBox(QDoubleSpinBox):
    """A number without the zeros after its last digit, and without buttons."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setDecimals(6)
        # Qt 6.11.3 leaves a pixel for the number where buttons are none, and a style sheet is set.
        self.setStyleSheet(WITHOUT_BUTTONS)
        self.setKeyboardTracking(False)

    def textFromValue(self, value: float) -> str:
        text, point = super().textFromValue(value), self.locale().decimalPoint()
        return text.rstrip("0").rstrip(point) if point in text else text


class KelvinSlider(NumberSlider):
    """A slider of colour temperature, even in mired to each side of neutral, and its number."""

    neutral = NEUTRAL_KELVIN

    def __init__(self, parent: QWidget) -> None:
        least, most = options_of(Adjustment)["temperature"].limits or (0, 0)
        self._coolest, self._warmest = 1e6 / least, 1e6 / most
        super().__init__(least, most, parent, " K")
        self.box.setSingleStep(50)
        self.setValue(self.neutral)

    def _place_of(self, value: float) -> int:
        mired = 1e6 / value
        share, end = (1, self._warmest) if mired < NEUTRAL else (-1, self._coolest)
        return round(100 * share * (mired - NEUTRAL) / (end - NEUTRAL))

    def _value_at(self, place: int) -> float:
        end = self._warmest if place > 0 else self._coolest
        return round(1e6 / (NEUTRAL + (end - NEUTRAL) * abs(place) / 100))


class ToneSection(AdjustingSection):
    """White balance, saturation, tones and curve of the current result, with its histogram."""

    TITLE = "Tone and colour"
    TIP = "White balance, colourfulness, highlights, shadows and curve of the result, at once"
    FIELDS = TONE
    TIPS: ClassVar[Mapping[str, str]] = {
        "temperature": "Colour temperature of the light that is to be white: to the right warmer",
        "tint": "Towards magenta, or to the left towards green",
        "saturation": "Colourfulness; -100 is grey",
        "highlights": "Brightens the bright tones; to the left it darkens them",
        "shadows": "Brightens the dark tones; to the left it darkens them",
        "local_contrast": "Contrast of detail with its surroundings",
    }

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._watched: Variant | None = None
        """Whose pixels are in the histogram."""
        self._of_layer = Connections(self)
        self._tool: CanvasTool | None = None
        """While grey is picked."""
        self._is_outdated = True
        """Whether the histogram is made when it is seen again."""
        self.histogram = HistogramView(self)
        self._query = DebouncedQuery(
            histogram_of,
            self.histogram.show_histogram,
            HISTOGRAM_MS,
            "No histogram could be made",
            self,
        )
        self._build()
        self.listen(self._update_histogram, *view_events(viewer))
        self._begin()

    def _build(self) -> None:
        self.about = QLabel(self, wordWrap=True)
        self.histogram.curve_changed.connect(self._adjust)
        self.histogram.painted.connect(self._on_painted)
        form = form_layout()
        self.temperature = self._rows.add(form, "Temperature", "temperature", KelvinSlider(self))
        self.temperature.name("Temperature", "number of kelvin")
        self.sliders: dict[str, NumberSlider] = {}
        asked = options_of(Adjustment)
        for name, label in (COLOUR_SLIDERS | TONE_SLIDERS).items():
            least, most = asked[name].limits or (0, 1)
            slider = NumberSlider(least, most, self)
            self.sliders[name] = self._rows.add(form, label, name, slider)
            slider.name(label)
            if name == "tint":
                self.picker = add_button(self, "Pick grey", GREY, checkable=True)
                self.picker.toggled.connect(self._on_picker)
                form.addRow("", self.picker)
        form.addRow("", self._back_row())
        column_of(self, self.about, self.histogram, form)

    def leave(self) -> None:
        self.picker.setChecked(False)

    # -- settings ------------------------------------------------------------------

    @property
    def _coloured(self) -> tuple[QWidget, ...]:
        return (self.temperature, self.picker, *(self.sliders[name] for name in COLOUR_SLIDERS))

    @property
    def values(self) -> dict[str, Any]:
        """What the widgets say of `FIELDS`."""
        return {**super().values, "curve": self.histogram.curve}

    def _show(self, adjustment: Adjustment) -> None:
        super()._show(adjustment)
        self.histogram.show_curve(adjustment.curve)

    def _enable(self) -> None:
        """Enable only what the current result allows, and say why it allows no more."""
        variant = self._variant
        error = self._refusal(shadows=1)
        problem = variant is None or error is not None
        error = error or self._refusal(saturation=1)
        # Without the hint: what to leave out is disabled.
        said = with_labels(error.message) if error else "" if variant else NOTHING
        self.about.setText(said)
        self.about.setVisible(bool(said))
        for widget in (self.histogram, self.temperature, self.picker, *self.sliders.values()):
            widget.setEnabled(not problem)
        for widget in self._coloured:
            widget.setEnabled(not said)
        if not self.picker.isEnabled():
            self.picker.setChecked(False)
        watched = self._watched = None if problem else variant
        if watched is None:
            self._of_layer.end()
        else:
            self._of_layer.turn((watched.layer.events.set_data, self._update_histogram))
        self._update_histogram()

    # -- grey ------------------------------------------------------------------------

    def _on_picker(self, checked: bool) -> None:
        variant = self._variant
        if checked and variant is not None:
            leave = partial(self.picker.setChecked, False)
            hint = "Click on something that should be grey."
            self._tool = CanvasTool(self.viewer, variant.layer, self._on_press, leave, hint)
        elif self._tool is not None:
            self._tool.end()
            self._tool = None

    def _on_press(self, _viewer: Any, event: Any) -> None:
        variant = self._variant
        if variant is None or event.button != 1:
            return
        shown = variant.shown
        (place,) = in_data(self.viewer, shown.layer, [np.array(event.position)[-2:]])
        y, x = (round(at) - SPOT // 2 for at in place)
        spot = Region(y, x, y + SPOT, x + SPOT).shift(shown.box.y0, shown.box.x0)
        spot = spot.intersect(shown.region)
        if spot.is_empty:
            return
        if not shown.covers(spot):
            show_note("This place is not restored yet. Choose another, or wait.")
            return
        self.picker.setChecked(False)
        in_background(lambda: shown.result.grey_balance(spot), self._on_grey, variant)

    def _on_grey(self, variant: Variant, found: tuple[float, float] | RestoreError) -> None:
        if isinstance(found, RestoreError):
            show_problem(found)
        elif variant is self._variant:
            self.temperature.setValue(round(found[0]))
            self.sliders["tint"].setValue(round(found[1], 1))

    # -- histogram -------------------------------------------------------------------

    def _on_painted(self) -> None:
        if self._is_outdated:
            self._update_histogram()

    def _update_histogram(self) -> None:
        """Make it again soon, on another thread, while it can be seen."""
        if self._watched is None:
            self._query.discard()
            self.histogram.show_histogram(None)
            return
        self._is_outdated = self.histogram.visibleRegion().isEmpty()
        if self._is_outdated:
            self._query.discard()
            return
        layer, image = self._watched.layer, self._watched.shown.result.image
        levels = list(layer.data) if layer.multiscale else [layer.data]
        if layer.ndim == 3:
            # Grey with alpha, which is shown band by band.
            levels = [level[image.data_bands[0]] for level in levels]
        try:
            view = visible_region(self.viewer, layer, levels[0].shape[:2])
        except BadRegion:
            self.histogram.show_histogram(None)
            return
        step = within(view, 1, HISTOGRAM_PIXELS)
        level = min(step.bit_length(), len(levels)) - 1
        self._query.request(levels[level], view, level, white_of(image))


def white_of(image: Image) -> float:
    """Return the value that is white on the screen."""
    light = image.profile.light
    dtype = image.dtype if light is None else light.dtype
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def histogram_of(pixels: Any, view: Region, level: int, white: float) -> Histogram:
    """Return the histogram of the part `view`, in pixels of level 0, of a layer's level."""
    rows, columns = (
        slice(start >> level, max((start >> level) + 1, stop >> level))
        for start, stop in ((view.y0, view.y1), (view.x0, view.x1))
    )
    return Histogram.of(np.asarray(pixels[rows, columns]), white)
