"""An index, or any expression over bands, before and after a run: its layers, its view and the warning of its change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image as ImageLayer, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLineEdit
from superqt.utils import signals_blocked

from napari_restore import api
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.compare.maps_view import CATEGORIES, Key, MapLayers, SideMap
from napari_restore.plugin.layers.placing import over, plane_of
from napari_restore.plugin.layers.status import VALUE
from napari_restore.plugin.tasks.notices import error_text
from napari_restore.plugin.widgets.editors import number_box
from napari_restore.plugin.widgets.folding import add_button, column_of, flowing, form_layout
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image
    from napari_restore.plugin.layers.result_layer import Box
    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.state.variant import Variant


AFTER, DIFFERENCE = "after", "difference"
COUNTED = 2**22
"""Pixels of the level on which the share of changed pixels is counted, at most."""
NODATA = next(each.bit for each in CATEGORIES if each.name == "nodata")
PERCENTILES = (2, 98)
Limits = tuple[float, float]


class IndexMap(SideMap):
    """An expression after a run, or its difference to before, with the levels its layer needs."""

    def __init__(self, variant: Variant, math: api.BandMath, part: str) -> None:
        super().__init__(variant, f"{math.name} {part}")
        self.math, self.part = math, part
        self.changes: npt.NDArray[np.float32] = np.empty(0, np.float32)
        """Absolute differences of the valid pixels of the level that was counted."""
        self.step = 1
        """Level-0 pixels along a side of one of these."""

    def build(self) -> IndexMap:
        super().build()
        if self.part == DIFFERENCE:
            self._count()
        return self

    def share(self, threshold: float) -> float:
        """Return the share, 0 … 1, of valid pixels that differ by more; NaN where there are none."""
        return float((self.changes > threshold).mean()) if self.changes.size else float("nan")

    def layer(self) -> Layer:
        made = super().layer()
        made.name = f"{self.math.name} {self.part}: {self.variant.name}"
        made.metadata[VALUE] = self.name
        if self.part == DIFFERENCE:
            finite = self.changes[np.isfinite(self.changes)]
            most = float(np.percentile(finite, 99)) if finite.size else 0.0
            made.contrast_limits = (-(most or 1.0), most or 1.0)
        else:
            made.colormap = "viridis"
            made.contrast_limits = limits_of(self._coarse[-1])
        return made

    def compared(
        self, before: npt.NDArray[Any], after: npt.NDArray[Any], box: Box, level: int
    ) -> npt.NDArray[Any]:
        valid = (self.variant.shown.result.quality_of(before, after, box, level) & NODATA) == 0
        values = self.math.compute(after, valid)
        if self.part == DIFFERENCE:
            values = values - self.math.compute(before, valid)
        return values

    def _count(self) -> None:
        fitting = [n for n, each in enumerate(self._levels) if math.prod(each.shape) <= COUNTED]
        number = fitting[0] if fitting else len(self._levels) - 1
        self.step = 1 << number
        parts = [np.abs(part[np.isfinite(part)]) for part in self._levels[number].strips()]
        self.changes = np.concatenate(parts)


def limits_of(values: npt.NDArray[Any]) -> Limits:
    """Return contrast limits for values, NaN where there are none."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


BEFORE = "before"


class SourceMap:
    """An expression over the image of a layer, before a run."""

    variant = None
    part = BEFORE

    def __init__(
        self, source: ImageLayer, image: Image, math: api.BandMath, black: float | None
    ) -> None:
        self.below, self.math = source, math
        self._image, self._black = image, black
        self._levels: list[Any] = []

    def build(self) -> SourceMap:
        """Make the levels, the coarsest in memory; not in the GUI thread. Raises `RestoreError`."""
        image = self._image
        image.prepare()
        image.build_pyramid()
        # napari 0.9 reads the coarsest in the GUI thread.
        levels = self._levels = [
            api.band_math(image, self.math.formula, level=number, black=self._black)
            for number in range(len(image.level_shapes))
        ]
        levels[-1] = levels[-1].compute(scheduler="synchronous")
        return self

    def layer(self) -> Layer:
        levels, name = self._levels, f"{self.math.name} {BEFORE}"
        return ImageLayer(
            levels if len(levels) > 1 else levels[0],
            name=f"{name}: {self.below.name}",
            multiscale=len(levels) > 1,
            cache=False,
            **over(self.below, plane_of(self.below), **{VALUE: name}),
            colormap="viridis",
            contrast_limits=limits_of(levels[-1]),
        )


TIP = (
    "An index, or arithmetic of bands by name or role: (nir - red) / (nir + red). "
    "b1 is the first band; swir1 and swir2 go by wavelength"
)
TIPS = {
    BEFORE: "The expression over the image, as a layer",
    AFTER: "The expression over the current result, as a layer",
    DIFFERENCE: "After less before, as a layer; and the share of pixels that it changes",
}


class IndexView(MapLayers):
    """An expression, and a button for each of its layers: before, after, difference."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._build()
        events = state.events
        self.listen(self._offer, events.layer, events.named)
        self.listen(self._on_current, events.current, events.running)
        self._offer()

    def _build(self) -> None:
        self.expression = QComboBox(self)
        edit = QLineEdit(self)
        self.expression.setLineEdit(edit)
        self.expression.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.expression.setMinimumContentsLength(8)
        self.expression.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.expression.setToolTip(TIP)
        self.expression.setAccessibleName("Index or expression")
        self.buttons = {
            part: add_button(self, part.capitalize(), tip, checkable=True)
            for part, tip in TIPS.items()
        }
        for part, button in self.buttons.items():
            # PySide does not know how many arguments a `partial` takes.
            button.clicked.connect(lambda checked, part=part: self._on_clicked(part, checked))
        tip = "Pixels whose value differs by more than this are counted"
        self.threshold = number_box(self, (0, 1000), tip, api.THRESHOLD, step=0.01, decimals=3)
        self.about = WrappedLabel("", self)
        self.about.setTextFormat(Qt.TextFormat.PlainText)
        self.warning = WrappedLabel("", self)
        self.warning.setTextFormat(Qt.TextFormat.PlainText)
        form = form_layout()
        form.addRow("Index", self.expression)
        form.addRow("Warn above", self.threshold)
        column_of(self, form, flowing(*self.buttons.values()), self.warning, self.about)
        self.expression.activated.connect(self._on_current)
        edit.editingFinished.connect(self._on_current)
        self.threshold.valueChanged.connect(self._warn)

    # -- the image and the current result ------------------------------------------

    def _offer(self) -> None:
        """Offer the indices whose bands the image has; an expression that was written stays."""
        image, text = self.state.image, self.expression.currentText()
        offered = [] if image is None else api.indices(image)
        with signals_blocked(self.expression):
            self.expression.clear()
            self.expression.addItems(offered)
            self.expression.setEditText(text or next(iter(offered), ""))
        self._on_current()

    def _math(self, part: str) -> api.BandMath | None:
        """Return the expression over what `part` needs; None, with the reason shown, where it fails."""
        layer, current = self.state.layer, self.state.current
        text = self.expression.currentText().strip()
        if not text or layer is None:
            return None
        if part == BEFORE:
            image, black = self.state.named_image(layer), self.state.options.reading.black
        elif current is None:
            return None
        else:
            image = current.shown.result.image
            black = current.shown.result.plan.reading.black
        return api.BandMath(image, text, black)

    def _on_current(self) -> None:
        super()._on_current()
        layer = self.state.layer
        text = self.expression.currentText().strip()
        problem = ""
        try:
            about = self._math(BEFORE)
        except RestoreError as error:
            about, problem = None, error_text(error)
        if about is not None and layer is not None:
            self.about.setText(about.describe(self.state.named_image(layer)))
        else:
            self.about.setText(problem or "Name an index, or write one of bands.")
        name = text if about is None else about.name
        for part, button in self.buttons.items():
            below = self._below(part)
            key = None if below is None else self._key(below, f"{name} {part}")
            button.setEnabled(about is not None and below is not None)
            button.setChecked(key in self._shown)
        self._warn()

    def _warn(self) -> None:
        """Say how many pixels the run has changed, where their difference is shown."""
        current, text = self.state.current, ""
        for made, _ in self._shown.values():
            if not isinstance(made, IndexMap) or made.part != DIFFERENCE:
                continue
            if made.variant is not current or not self.buttons[DIFFERENCE].isChecked():
                continue
            limit = self.threshold.value()
            share = made.share(limit)
            found = api.change_text(made.math.name, limit, share)
            at = "" if made.step == 1 else f" Counted at 1:{made.step}."
            if found is not None:
                text = f"⚠ {found}{at}"
            elif not math.isnan(share):
                text = f"No valid pixel of {made.math.name} differs by more than {limit:g}.{at}"
            if made.variant.result is None:
                text += " The run has not finished."
        self.warning.setText(escape_controls(text))
        self.warning.setVisible(bool(text))

    # -- layers ------------------------------------------------------------------

    def _below(self, part: str) -> ImageLayer | None:
        """Return the layer that a part is of: the image, or the current result."""
        current = self.state.current
        return self.state.layer if part == BEFORE else current and current.layer

    def _on_clicked(self, part: str, checked: bool) -> None:
        try:
            found = self._math(part)
        except RestoreError as error:
            self._on_failed(error)
            return
        below, current = self._below(part), self.state.current
        if found is None or below is None:
            return
        made: Any
        if part == BEFORE:
            black = self.state.options.reading.black
            made = SourceMap(below, self.state.named_image(below), found, black)
        else:
            assert current is not None
            made = IndexMap(current, found, part)
        self._switch(self._key(below, f"{found.name} {part}"), made, checked)

    def _is_wanted(self, made: Any) -> bool:
        return self.buttons[made.part].isChecked()

    def _show(self, key: Key, made: Any) -> None:
        super()._show(key, made)
        if made.part == AFTER and key in self._shown:
            before = self._key(made.variant.source, f"{made.math.name} {BEFORE}")
            if before in self._shown:
                # Both in one scale.
                limits = self._shown[before][1].contrast_limits
                self._shown[key][1].contrast_limits = limits
        self._on_current()
