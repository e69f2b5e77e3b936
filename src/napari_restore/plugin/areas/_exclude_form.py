"""Chooses what of a mask is excluded: a band or layer, classes and bits by name or number, attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QWidget
from superqt.utils import signals_blocked

from napari_restore.plugin.widgets.combo_box import NarrowComboBox
from napari_restore.plugin.widgets.folding import column_of, flowing, form_layout

if TYPE_CHECKING:
    from napari_restore.engine import MaskChoices
    from napari_restore.questions import Reading, RestoreKeywords

CHOOSE = "Choose a band or layer …"


class ExcludeForm(QWidget):
    """The controls that a mask needs; hidden where it has nothing to choose."""

    part_chosen = Signal(str)
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.part = NarrowComboBox(self, tip="The band, or layer, of the file to exclude by")
        self.product = QLabel(self, wordWrap=True)
        self.values = self._line("3,8,9 or 50..100", "Leaves out pixels of these values")
        self.bits = self._line("3,4 (from 0)", "Leaves out pixels with one of these bits")
        tip = "Only features with these attributes are left out"
        self.where = self._line("class = 'water'", tip)
        lines = QWidget(self)
        self._lines = form_layout(lines)
        self._lines.setContentsMargins(0, 0, 0, 0)
        self._lines.addRow("Values", self.values)
        self._lines.addRow("Bits", self.bits)
        self._lines.addRow("Attributes", self.where)
        self.names: dict[str, QCheckBox] = {}
        self._boxes = QWidget(self)
        self._flow: Any = None
        column_of(self, self.part, self.product, self._boxes, lines)
        self.part.activated.connect(self._on_part)
        self.show_mask(None, None)

    def options(self) -> RestoreKeywords:
        """Return the options of `Reading` that say what of the mask is meant."""
        bits = [name for name, box in self.names.items() if box.isChecked()]
        bits += [self.bits.text().strip()] if self.bits.text().strip() else []
        return {
            "exclude_values": self.values.text().strip() or None,
            "exclude_bits": ",".join(bits) or None,
            "exclude_where": self.where.text().strip() or None,
        }

    def show_mask(
        self, choices: MaskChoices | None, reading: Reading | None, part: str | None = None
    ) -> None:
        """Show what there is to choose, and what `reading` has chosen; nothing for None."""
        parts = choices.parts if choices is not None else ()
        has_values = choices is not None and choices.is_raster
        has_attributes = choices is not None and choices.has_attributes
        with signals_blocked(self.part):
            self.part.offer([(CHOOSE, ""), *((name, name) for name in parts)], part or "")
        self.part.setVisible(bool(parts))
        names = choices.names if choices is not None else ()
        self._offer_names(names)
        self.product.setText(choices.product if choices is not None else "")
        self.product.setVisible(bool(names))
        for line in (self.values, self.bits):
            self._lines.setRowVisible(line, has_values)
        self._lines.setRowVisible(self.where, has_attributes)
        self.show_chosen(reading)
        self.setVisible(bool(parts) or has_values or has_attributes)

    def show_chosen(self, reading: Reading | None) -> None:
        """Show what `reading` has chosen of the mask."""
        bits = _items(None if reading is None else reading.exclude_bits)
        for name, box in self.names.items():
            with signals_blocked(box):
                box.setChecked(name in bits)
        texts = (
            (self.bits, ",".join(item for item in bits if item not in self.names)),
            (self.values, (reading.exclude_values if reading is not None else None) or ""),
            (self.where, (reading.exclude_where if reading is not None else None) or ""),
        )
        for line, text in texts:
            with signals_blocked(line):
                line.setText(text)

    def _offer_names(self, names: Iterable[str]) -> None:
        if list(names) == list(self.names):
            return
        for box in self.names.values():
            box.setParent(None)
            box.deleteLater()
        self.names = {name: QCheckBox(name.replace("_", " "), self._boxes) for name in names}
        for box in self.names.values():
            box.toggled.connect(self.changed)
        old = self._boxes
        self._boxes = QWidget(self)
        column_of(self._boxes, flowing(*self.names.values()))
        layout = self.layout()
        assert layout is not None
        layout.replaceWidget(old, self._boxes)
        old.setParent(None)
        old.deleteLater()
        self._boxes.setVisible(bool(self.names))

    def _line(self, text: str, tip: str) -> QLineEdit:
        line = QLineEdit(self)
        line.setPlaceholderText(text)
        line.setToolTip(tip)
        line.editingFinished.connect(self.changed)
        return line

    def _on_part(self) -> None:
        self.part_chosen.emit(self.part.currentData())


def _items(text: str | None) -> list[str]:
    return [item.strip() for item in text.split(",")] if text else []
