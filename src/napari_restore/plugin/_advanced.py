"""What most people leave alone."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSpinBox, QWidget

DEVICES = ("auto", "cpu", "cuda", "mps")


class AdvancedForm(QWidget):
    """Device and tile size."""

    changed = Signal(str, object)
    """Device, and tile edge in pixels or None."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.device = QComboBox(self)
        self.device.addItems(DEVICES)
        self.device.setToolTip("Where the model runs; auto takes a GPU where there is one")
        self.tile = QSpinBox(self)
        self.tile.setRange(0, 8192)
        self.tile.setSingleStep(128)
        self.tile.setSuffix(" px")
        self.tile.setSpecialValueText("automatic")
        self.tile.setToolTip("Edge of a tile; the memory budget chooses it. The result is the same")
        # A half-typed number is no wish.
        self.tile.setKeyboardTracking(False)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Device", self.device)
        layout.addRow("Tile", self.tile)
        self.device.currentTextChanged.connect(self._on_changed)
        self.tile.valueChanged.connect(self._on_changed)

    def _on_changed(self) -> None:
        self.changed.emit(self.device.currentText(), self.tile.value() or None)
