"""Adjusts the current result without a run: strength, tones, colour, exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QWidget
from superqt import QLabeledDoubleSlider, QLabeledSlider
from superqt.utils import qthrottled

from napari_restore.errors import BadParameter, RestoreError
from napari_restore.plugin.tasks import error_text, in_background, show_problem
from napari_restore.plugin.widgets import Section, add_button, column_of, form_layout, row_of
from napari_restore.questions import Adjustment, options_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state import RestoreState, Variant

ADJUST_MS = 50
"""While a slider moves the picture follows this often."""
SLIDERS = (
    ("strength", "Strength", "How much of the method's change is applied; beyond 100 % more"),
    (
        "protect_shadows",
        "Protect shadows",
        "How much of the change the darkest third of the tones is spared",
    ),
    (
        "protect_highlights",
        "Protect highlights",
        "How much of the change the brightest third is spared, for instance clouds and lamps",
    ),
)
"""Field of an `Adjustment`, label, what it does."""
KEEP_COLOURS = "Only the lightness follows the method; red, green and blue keep their differences"
EXPOSURE = (
    "Brightens the result in linear light, or darkens it; black and white stay. "
    "0 leaves it as the method made it"
)
AUTO = "Give the result the median light of its source, where the method took some away"
UNFINISHED = "Measured once the run has finished."
NOTHING = "There is no result yet. Run first; changing its look then runs nothing again."


class AdjustSection(Section):
    """Adjusts the state's current result at once, on the screen and for the file."""

    TITLE = "Adjust"
    heading_changed = Signal(str)
    """The heading, with whether the result is adjusted."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._variant: Variant | None = None
        self._adjust = qthrottled(self._apply, timeout=ADJUST_MS, parent=self)
        self._build()
        self._on_adjusted()
        self.listen(state.events.current, self._on_current)
        self.listen(state.events.running, self._enable)
        self._on_current()

    def _build(self) -> None:
        self.about = QLabel(self, wordWrap=True)
        form = form_layout()
        self.sliders: dict[str, QLabeledSlider] = {}
        asked = options_of(Adjustment)
        for name, label, help_text in SLIDERS:
            slider = QLabeledSlider(Qt.Orientation.Horizontal, self)
            least, most = asked[name].limits or (0, 1)
            slider.setRange(round(100 * least), round(100 * most))
            slider.setPageStep(10)
            slider.setToolTip(f"{help_text} (%)")
            slider.setAccessibleName(label)
            slider.valueChanged.connect(self._adjust)
            self.sliders[name] = slider
            form.addRow(f"{label} (%)", slider)
        form.addRow("Exposure (EV)", self._exposure_row())
        self.keep_colours = QCheckBox("Keep the colours", self)
        self.keep_colours.toggled.connect(self._adjust)
        form.addRow("", self.keep_colours)
        self.reset_button = add_button(self, "Reset", "Show the result as the method made it")
        self.reset_button.clicked.connect(self.reset)
        self.undo_button = add_button(self, "Undo", "Take the last change of the look back")
        self.undo_button.clicked.connect(self.undo)
        back = QHBoxLayout()
        back.addWidget(self.undo_button)
        back.addWidget(self.reset_button)
        form.addRow("", back)
        column_of(self, self.about, form)

    def _exposure_row(self) -> QWidget:
        self.exposure = QLabeledDoubleSlider(Qt.Orientation.Horizontal, self)
        self.exposure.setRange(-Adjustment.MOST_EV, Adjustment.MOST_EV)
        self.exposure.setDecimals(2)
        self.exposure.setSingleStep(0.1)  # type: ignore[arg-type]
        self.exposure.setToolTip(f"{EXPOSURE} (EV)")
        self.exposure.setAccessibleName("Exposure")
        self.exposure.valueChanged.connect(self._adjust)
        self.auto_button = add_button(self, "Auto")
        self.auto_button.setAccessibleName("Measure the exposure")
        self.auto_button.clicked.connect(self.measure_exposure)
        # Beside the sliders from its beginning: Tab goes through widgets in the order they come here.
        holder = QWidget(self)
        holder.setFocusProxy(self.exposure)
        holder.setLayout(row_of(self.exposure, self.auto_button))
        return holder

    @property
    def _controls(self) -> tuple[QWidget, ...]:
        return (*self.sliders.values(), self.exposure, self.keep_colours)

    @property
    def chosen(self) -> Adjustment:
        shares = {name: slider.value() / 100 for name, slider in self.sliders.items()}
        return Adjustment(
            **shares,
            luminance_only=self.keep_colours.isChecked(),
            exposure=round(self.exposure.value(), 2),
        )

    def measure_exposure(self) -> None:
        """Set the exposure to what gives the result its source's light, measured in a thread."""
        variant = self._variant
        if variant is None or variant.result is None:
            return
        self.auto_button.setEnabled(False)
        in_background(variant.result.measured_exposure, self._on_measured, variant)

    def _on_measured(self, variant: Variant, measured: float | RestoreError) -> None:
        self._enable()
        if isinstance(measured, RestoreError):
            show_problem(measured)
        elif variant is self._variant:
            self.exposure.setValue(measured)

    def reset(self) -> None:
        self._show(Adjustment())
        self._apply()

    def undo(self) -> None:
        self._adjust.flush()
        if self._variant is not None:
            self._variant.undo()

    def leave(self) -> None:
        self._adjust.cancel()
        self._follow(None)
        super().leave()

    def _apply(self) -> None:
        if self._variant is None or self.chosen == self._variant.adjustment:
            return
        try:
            self._variant.adjust(self.chosen)
        except BadParameter as error:
            show_problem(error)
            self._on_adjusted()

    def _on_current(self) -> None:
        if self.state.current is self._variant:
            self._enable()
            return
        # The last values of the sliders are those of the result before.
        self._adjust.flush()
        self._follow(self.state.current)
        self._enable()
        self._on_adjusted()

    def _follow(self, variant: Variant | None) -> None:
        if self._variant is not None:
            self._variant.adjusted.disconnect(self._on_adjusted)
            self._variant.completed.disconnect(self._enable)
        self._variant = variant
        if variant is not None:
            variant.adjusted.connect(self._on_adjusted)
            variant.completed.connect(self._enable)

    def _enable(self) -> None:
        """Enable only what the current result allows."""
        variant = self._variant
        self.about.setText("" if variant else NOTHING)
        self.about.setVisible(variant is None)
        for widget in self._controls:
            widget.setEnabled(variant is not None)
        finished = variant is not None and variant.result is not None
        self.auto_button.setEnabled(finished)
        self.auto_button.setToolTip(AUTO if finished else UNFINISHED)
        self.keep_colours.setToolTip(KEEP_COLOURS)
        if variant is not None:
            try:
                image = variant.shown.result.image
                Adjustment(luminance_only=True).check(image.name, image.roles)
            except BadParameter as error:
                self.keep_colours.setEnabled(False)
                self.keep_colours.setToolTip(error_text(error))

    def _on_adjusted(self) -> None:
        variant = self._variant
        adjustment = Adjustment() if variant is None else variant.adjustment
        self._show(adjustment)
        self.undo_button.setEnabled(variant is not None and variant.can_undo)
        self.reset_button.setEnabled(not adjustment.is_neutral)
        self.heading_changed.emit(
            self.TITLE if adjustment.is_neutral else f"{self.TITLE} · adjusted, with undo"
        )

    def _show(self, adjustment: Adjustment) -> None:
        """Set the widgets without applying their values."""
        values = adjustment.to_dict()
        for widget in self._controls:
            widget.blockSignals(True)
        for name, slider in self.sliders.items():
            slider.setValue(round(100 * values[name]))
        self.keep_colours.setChecked(values["luminance_only"])
        self.exposure.setValue(adjustment.ev)
        for widget in self._controls:
            widget.blockSignals(False)
