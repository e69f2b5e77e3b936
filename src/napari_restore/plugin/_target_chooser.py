"""Chooses what is restored."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_restore import Region
from napari_restore.plugin._targets import Target


class TargetChooser(QWidget):
    """Visible region, drawn rectangle or whole image, and which pixels that is now."""

    changed = Signal(object)
    """The chosen `Target`."""
    draw_requested = Signal()
    """The user wants to draw a rectangle."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = QComboBox(self)
        for target in Target:
            self.combo.addItem(target.value.capitalize(), target)
        self._draw = QPushButton("Draw", self)
        self._draw.setToolTip("Drag a rectangle over the image")
        self._draw.hide()
        self._pixels = QLabel(self)
        self._pixels.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.combo, 1)
        row.addWidget(self._draw)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._pixels)
        self.combo.currentIndexChanged.connect(self._on_chosen)
        self._draw.clicked.connect(self.draw_requested)

    def target(self) -> Target:
        """The choice."""
        return Target(self.combo.currentData())

    def choose(self, target: Target) -> None:
        """Choose as a click would."""
        self.combo.setCurrentIndex(list(Target).index(target))

    def show_region(self, region: Region | None, problem: str = "") -> None:
        """Say which pixels the target is, or why it is none."""
        if region is None:
            self._pixels.setText(problem)
            return
        size = f"{region.width} × {region.height}"
        # Unbreakable within, so that no lonely number begins a line.
        corner = f"at x {region.x0}, y {region.y0}".replace(" ", "\N{NO-BREAK SPACE}")
        self._pixels.setText(f"{size} pixels {corner}")

    def _on_chosen(self) -> None:
        self._draw.setVisible(self.target() is Target.RECTANGLE)
        self.changed.emit(self.target())
