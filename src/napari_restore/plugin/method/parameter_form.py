"""A form for the parameters that a model's card declares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from magicgui.widgets import FloatSlider, Slider, create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget

from napari_restore.plugin.widgets.folding import Folded, column_of, form_layout, in_a_row

if TYPE_CHECKING:
    from magicgui.widgets.bases import ValueWidget

    from napari_restore.models import ModelCard, Parameter

MORE = "More settings"
READOUT = 32
"""Width in pixels of the number beside a slider."""


class ParameterForm(QWidget):
    """One row per parameter, explained by its tooltip."""

    changed = Signal(dict)
    """The values that differ from the card's defaults, by name."""

    def __init__(self, parent: QWidget | None = None, *, sliders: bool = False) -> None:
        """Begin without parameters.

        With `sliders` those that have limits are sliders, and those for experts are folded away.
        """
        super().__init__(parent)
        self._sliders = sliders
        self._card: ModelCard | None = None
        self.rows: dict[str, ValueWidget[Any]] = {}
        self._fields: dict[str, tuple[QFormLayout, QWidget]] = {}
        inner = QWidget()
        self._form, self._more_form = form_layout(), form_layout(inner)
        self._form.setContentsMargins(0, 0, 0, 0)
        self.more = Folded(MORE, inner, "Parameters that are seldom changed")
        column_of(self, self._form, self.more)

    def show_card(self, card: ModelCard) -> None:
        """Offer the parameters of `card` at their defaults."""
        if self._card == card:
            return
        self._card = card
        for name, row in self.rows.items():
            row.changed.disconnect(self._on_changed)
            form, field = self._fields[name]
            form.removeRow(field)
        self._fields = {}
        self.rows = {
            parameter.name: widget_for(parameter, slider=self._sliders)
            for parameter in card.parameters
        }
        for parameter in card.parameters:
            row = self.rows[parameter.name]
            label = QLabel(label_of(parameter))
            label.setToolTip(parameter.help)
            label.setBuddy(row.native)
            form = self._more_form if self._is_folded(parameter) else self._form
            field = self._field_of(row)
            self._fields[parameter.name] = form, field
            form.addRow(label, field)
            row.changed.connect(self._on_changed)
        self.more.setVisible(any(map(self._is_folded, card.parameters)))

    def _is_folded(self, parameter: Parameter) -> bool:
        return self._sliders and parameter.expert

    def _field_of(self, row: ValueWidget[Any]) -> QWidget:
        """Return the widget of a row, a slider with its value beside it."""
        if not isinstance(row, (Slider, FloatSlider)):
            return cast("QWidget", row.native)
        text = QLabel(f"{row.value:g}")
        text.setMinimumWidth(READOUT)
        row.changed.connect(lambda value: text.setText(f"{value:g}"))
        return in_a_row(row.native, text)

    def values(self) -> dict[str, Any]:
        """Return the parameters that differ from the defaults."""
        if self._card is None:
            return {}
        return {
            parameter.name: value
            for parameter in self._card.parameters
            if (value := self.rows[parameter.name].value) != parameter.default
        }

    def set_value(self, name: str, value: Any) -> None:
        """Set one parameter as typing it would; one that the card lacks changes nothing."""
        if name in self.rows:
            self.rows[name].value = value

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set all parameters at once: those not among `values` to their defaults."""
        if self._card is None or values == self.values():
            return
        for parameter in self._card.parameters:
            row = self.rows[parameter.name]
            row.changed.disconnect(self._on_changed)
            row.value = values.get(parameter.name, parameter.default)
            row.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        self.changed.emit(self.values())


def label_of(parameter: Parameter) -> str:
    """Return the name as people read it, with the unit."""
    return f"{parameter.title} ({parameter.unit})" if parameter.unit else parameter.title


def widget_for(parameter: Parameter, *, slider: bool = False) -> ValueWidget[Any]:
    """Return the magicgui widget in which one parameter is set, a slider where it has limits."""
    options: dict[str, Any] = {"tooltip": parameter.help}
    kind = type(parameter.default)
    if parameter.choices:
        options["choices"] = parameter.choices
    elif kind in (int, float):
        low = parameter.minimum if parameter.minimum is not None else -1e9
        high = parameter.maximum if parameter.maximum is not None else 1e9
        options |= {"min": kind(low), "max": kind(high)}
        if kind is float:
            options["step"] = _step(float(parameter.default))
        if slider and None not in (parameter.minimum, parameter.maximum):
            options["widget_type"] = "FloatSlider" if kind is float else "Slider"
            # It is cut off in napari's theme.
            options["readout"] = False
    widget = create_widget(
        value=parameter.default, annotation=kind, name=parameter.name, options=options
    )
    return cast("ValueWidget[Any]", widget)


def _step(default: float) -> float:
    """Return a tenth of the default's magnitude, at most 0.05: fine enough, and shown in full."""
    if default == 0:
        return 0.01
    return float(min(0.05, 10.0 ** (math.floor(math.log10(abs(default))) - 1)))
