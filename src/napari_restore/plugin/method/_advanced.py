"""What most people leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.models import ModelCard

DEVICES = ("auto", "cpu", "cuda", "mps")
SCOPES = {
    "local": "local: a pixel depends on its surroundings only",
    "staged": "staged: the model looks at the whole image between its stages",
    "swept": "swept: the model passes over the whole image",
}


class AdvancedForm(QWidget):
    """Device, tile size and tile batch; what the model's reach is."""

    changed = Signal(str, object, object)
    """Device, tile edge in pixels or None, tiles at once or None."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.device = QComboBox(self)
        self.device.addItems(DEVICES)
        self.device.setToolTip("Where the model runs; auto takes a GPU where there is one")
        self.reason = QLabel(self)
        self.reason.setWordWrap(True)
        self.reason.setToolTip("The device of the plan, and why")
        self.scope = QLabel(self)
        self.scope.setWordWrap(True)
        self.scope.setToolTip("How much of the image a restored pixel follows from")
        self.tile = _number(self, 8192, 128, " px")
        self.tile.setToolTip("Edge of a tile; the memory budget chooses it. The result is the same")
        self.tile_batch = _number(self, 256, 1, " tiles")
        self.tile_batch.setToolTip("Tiles given to the model at once; helps networks on a GPU")
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        where = QWidget(self)
        column = QVBoxLayout(where)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.device)
        column.addWidget(self.reason)
        where.setFocusProxy(self.device)
        layout.addRow("Device", where)
        layout.addRow("Scope", self.scope)
        layout.addRow("Tile", self.tile)
        layout.addRow("Tile batch", self.tile_batch)
        self.reason.hide()
        self.device.currentTextChanged.connect(self._on_changed)
        self.tile.valueChanged.connect(self._on_changed)
        self.tile_batch.valueChanged.connect(self._on_changed)

    def show_settings(self, device: str, tile: int | None, tile_batch: int | None) -> None:
        """Show settings that somebody else has made."""
        self.blockSignals(True)
        self.device.setCurrentText(device)
        self.tile.setValue(tile or 0)
        self.tile_batch.setValue(tile_batch or 0)
        self.blockSignals(False)

    def show_card(self, card: ModelCard) -> None:
        """Tell the scope of `card`."""
        self.scope.setText(SCOPES.get(card.scope, card.scope))

    def show_plan(self, plan: Plan) -> None:
        """Tell the device that `plan` uses, and why."""
        self.reason.setText(f"{plan.device.name}: {plan.device.reason}")
        self.reason.show()

    def _on_changed(self) -> None:
        self.changed.emit(
            self.device.currentText(), self.tile.value() or None, self.tile_batch.value() or None
        )


def _number(parent: QWidget, most: int, step: int, suffix: str) -> QSpinBox:
    box = QSpinBox(parent)
    box.setRange(0, most)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setSpecialValueText("automatic")
    # A half-typed number is no wish.
    box.setKeyboardTracking(False)
    return box
