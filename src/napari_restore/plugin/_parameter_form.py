"""A form for the parameters that a model's card declares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from magicgui.widgets import Widget

    from napari_restore.models import ModelCard, Parameter


class ParameterForm(QWidget):
    """One row per parameter, named as in the literature, explained by its tooltip."""

    changed = Signal(dict)
    """The values that differ from the card's defaults, by name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._card: ModelCard | None = None
        self.rows: Container[Any] | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def show_card(self, card: ModelCard) -> None:
        """Offer the parameters of `card` at their defaults."""
        if self._card is not None and self._card.id == card.id:
            return
        self._card = card
        self._clear()
        self.rows = Container(
            widgets=[widget_for(parameter) for parameter in card.parameters], labels=True
        )
        self.rows.margins = (0, 0, 0, 0)
        self.rows.changed.connect(self._on_changed)
        self._column.addWidget(self.rows.native)

    def values(self) -> dict[str, Any]:
        """What differs from the defaults."""
        if self._card is None or self.rows is None:
            return {}
        return {
            parameter.name: value
            for parameter, row in zip(self._card.parameters, self.rows, strict=True)
            if (value := row.value) != parameter.default
        }

    def _on_changed(self) -> None:
        self.changed.emit(self.values())

    def _clear(self) -> None:
        if self.rows is not None:
            self.rows.changed.disconnect(self._on_changed)
            native = self.rows.native
            self._column.removeWidget(native)
            self.rows.close()
            native.deleteLater()
            self.rows = None


def widget_for(parameter: Parameter) -> Widget:
    """The magicgui widget in which one parameter is set."""
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
    label = f"{parameter.name} ({parameter.unit})" if parameter.unit else parameter.name
    widget = create_widget(
        value=parameter.default,
        annotation=kind,
        name=parameter.name,
        label=label.replace("_", " "),
        options=options,
    )
    return widget


def _step(default: float) -> float:
    """A tenth of the default's magnitude, at most 0.05: fine enough, and shown in full."""
    if default == 0:
        return 0.01
    return float(min(0.05, 10.0 ** (math.floor(math.log10(abs(default))) - 1)))
