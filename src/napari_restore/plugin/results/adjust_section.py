"""Adjusts the current result without a run: strength, tones, colour, exposure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QWidget
from superqt import QLabeledDoubleSlider, QLabeledSlider

from napari_restore.errors import RestoreError
from napari_restore.plugin.results._adjusting_section import NOTHING, AdjustingSection
from napari_restore.plugin.tasks.notices import error_text, show_problem
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets.folding import add_button, column_of, form_layout, in_a_row
from napari_restore.questions import Adjustment, options_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.state.variant import Variant

SLIDERS = {
    "strength": "Strength",
    "protect_shadows": "Protect shadows",
    "protect_highlights": "Protect highlights",
}
"""Labels of the fields that are set in percent."""
KEEP_COLOURS = (
    "The method changes only how light or dark each place is; its tint stays that of the photo. "
    "For methods that leave a cast, or colours too vivid."
)
AUTO = "Give most of the light back that the method took away"
UNFINISHED = "Measured once the run has finished."


class AdjustSection(AdjustingSection):
    """Adjusts the state's current result at once, on the screen and for the file."""

    TITLE = "Adjust"
    TIP = "How strong the result is, and how light, at once"
    FIELDS = (*SLIDERS, "luminance_only", "exposure")
    TIPS: ClassVar[Mapping[str, str]] = {
        "strength": "How much of the method's change is applied; beyond 100 % more (%)",
        "protect_shadows": "How much of the change the darkest third of the tones is spared (%)",
        "protect_highlights": "How much of the change the brightest third is spared, for instance clouds and "
        "lamps (%)",
        "exposure": "Brightens the result in linear light, or darkens it; black and white stay. 0 leaves it as "
        "the method made it. A photo that a method freed of fog has some from the start (EV)",
    }

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._build()
        self._begin()

    def _build(self) -> None:
        self.about = QLabel(self, wordWrap=True)
        form = form_layout()
        self.sliders: dict[str, QLabeledSlider] = {}
        asked = options_of(Adjustment)
        for name, label in SLIDERS.items():
            slider = QLabeledSlider(Qt.Orientation.Horizontal, self)
            least, most = asked[name].limits or (0, 1)
            slider.setRange(round(100 * least), round(100 * most))
            slider.setPageStep(10)
            self.sliders[name] = self._rows.add(form, f"{label} (%)", name, slider)
        row = self._exposure_row()
        self._rows.add(form, "Exposure (EV)", "exposure", self.exposure, row)
        keep_colours = QCheckBox("Keep the colours", self)
        self.keep_colours = self._rows.add(form, "", "luminance_only", keep_colours)
        self.about_colours = QLabel(KEEP_COLOURS, self, wordWrap=True)
        form.addRow(self.about_colours)
        form.addRow("", self._back_row())
        column_of(self, self.about, form)

    def _exposure_row(self) -> QWidget:
        self.exposure = QLabeledDoubleSlider(Qt.Orientation.Horizontal, self)
        self.exposure.setRange(-Adjustment.MOST_EV, Adjustment.MOST_EV)
        self.exposure.setDecimals(2)
        self.exposure.setSingleStep(0.1)  # type: ignore[arg-type]
        self.auto_button = add_button(self, "Auto", slot=self.measure_exposure)
        self.auto_button.setAccessibleName("Measure the exposure")
        return in_a_row(self.exposure, self.auto_button)

    @property
    def values(self) -> dict[str, Any]:
        """What the widgets say of `FIELDS`."""
        values = super().values
        shares = {name: values[name] / 100 for name in SLIDERS}
        return {**values, **shares, "exposure": round(values["exposure"], 2)}

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

    def _enable(self) -> None:
        """Enable only what the current result allows."""
        variant = self._variant
        self.about.setText("" if variant else NOTHING)
        self.about.setVisible(variant is None)
        for widget in self._rows.widgets.values():
            widget.setEnabled(variant is not None)
        finished = variant is not None and variant.result is not None
        self.auto_button.setEnabled(finished)
        self.auto_button.setToolTip(AUTO if finished else UNFINISHED)
        error = self._refusal(luminance_only=True)
        self.keep_colours.setEnabled(variant is not None and error is None)
        said = KEEP_COLOURS if error is None else error_text(error)
        self.about_colours.setText(said)
        self.keep_colours.setToolTip(said)

    def _show(self, adjustment: Adjustment) -> None:
        """Set the widgets without applying their values."""
        values = adjustment.to_dict()
        percents = {name: round(100 * values[name]) for name in SLIDERS}
        self._rows.show({**values, **percents, "exposure": adjustment.ev})
