"""One result in a list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget
from superqt import QElidingLabel

if TYPE_CHECKING:
    from napari_restore.plugin.state._variant import Variant


class VariantRow(QWidget):
    """The name of a result, to edit, and what it differs in from the others."""

    renamed = Signal(object, str)
    chosen = Signal(object)

    def __init__(self, variant: Variant, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.variant = variant
        self.name = QLineEdit(self)
        self.name.setFrame(False)
        self.settings = QElidingLabel("", self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(0)
        layout.addWidget(self.name)
        layout.addWidget(self.settings)
        self.show_name()
        self.name.editingFinished.connect(self._on_edited)
        self.name.selectionChanged.connect(lambda: self.chosen.emit(self.variant))

    def show_name(self) -> None:
        """Show the name its layer has now."""
        if self.name.text() != self.variant.name:
            self.name.setText(self.variant.name)
            self.name.setCursorPosition(0)
            self.name.setToolTip(
                f"{self.variant.name}\nIts name and that of its layer; edit it here"
            )

    def describe(self, line: str, settings: dict[str, str]) -> None:
        """Show what differs, and all settings as a tooltip."""
        self.settings.setText(line)
        self.settings.setToolTip("\n".join(f"{name}: {value}" for name, value in settings.items()))

    def mousePressEvent(self, event: Any) -> None:
        """Choose the result at a click beside the name."""
        self.chosen.emit(self.variant)
        super().mousePressEvent(event)

    def _on_edited(self) -> None:
        name = self.name.text().strip()
        if name and name != self.variant.name:
            self.renamed.emit(self.variant, name)
        self.show_name()
