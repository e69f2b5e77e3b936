"""Chooses a method by its title, with a line on what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_restore.models import ModelCard

MARK = "★ "
"""Before the title, and in words before the summary, of a recommended model."""


class ModelChooser(QWidget):
    """Titles to choose from, the recommended one marked, the summary of the chosen below."""

    changed = Signal(str)
    """The id of the chosen model."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._cards: dict[str, ModelCard] = {}
        self._scene = ""
        self.combo = QComboBox(self)
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._summary = QLabel(self)
        self._summary.setWordWrap(True)
        self._summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self._summary)
        self.combo.currentIndexChanged.connect(self._on_chosen)

    def offer(self, cards: Sequence[ModelCard], scene: str) -> None:
        """Show `cards`, those recommended for `scene` first; the choice stays where it can."""
        chosen = self.model()
        cards = sorted(cards, key=lambda card: scene not in card.recommended_for)
        self._cards = {card.id: card for card in cards}
        self._scene = scene
        self.combo.blockSignals(True)
        self.combo.clear()
        for card in cards:
            mark = MARK if scene in card.recommended_for else ""
            self.combo.addItem(mark + card.title, card.id)
            self.combo.setItemData(
                self.combo.count() - 1, card.summary, Qt.ItemDataRole.ToolTipRole
            )
        self.combo.setCurrentIndex(max(0, self.combo.findData(chosen)))
        self.combo.blockSignals(False)
        self._on_chosen()

    def model(self) -> str:
        """The chosen id, "" while nothing is offered."""
        return self.combo.currentData() or ""

    def card(self) -> ModelCard | None:
        """The chosen card."""
        return self._cards.get(self.model())

    def _on_chosen(self) -> None:
        card = self.card()
        if card is None:
            return
        recommended = f"{MARK}Recommended. " if self._scene in card.recommended_for else ""
        self._summary.setText(recommended + card.summary)
        self._summary.setToolTip("\n".join(filter(None, [card.caveats, card.source])))
        self.changed.emit(card.id)
