"""Keeping an answer, and comparing later ones with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_restore import api
from napari_restore.plugin.attention._asked import Asked, Reference
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._folding import in_a_row

if TYPE_CHECKING:
    from napari_restore.plugin.state._state import RestoreState

OVERLAYS = {False: "show the present query", True: "show the reference"}


class ReferenceBar(QWidget):
    """Keeps the present answer as the reference of a tab, and chooses which of both is shown."""

    changed = Signal()
    """Another reference, or none, or the other one of both is to be shown."""

    def __init__(self, state: RestoreState, asked: Asked, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state, self._asked = state, asked
        self.keep = QPushButton("Keep as reference", self)
        self.keep.setToolTip(
            "Show this answer beside those of other queries or networks, on one scale"
        )
        self.forget = QPushButton("Forget", self)
        self.forget.setToolTip("Compare with nothing")
        self.overlay = NarrowComboBox(self)
        for value, title in OVERLAYS.items():
            self.overlay.addItem(title, value)
        self.overlay.setToolTip("Which of both is laid over the image")
        self.caption = QLabel(self)
        self.caption.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(in_a_row(self.keep, self.forget))
        layout.addWidget(self.overlay)
        layout.addWidget(self.caption)
        self.keep.clicked.connect(self._on_keep)
        self.forget.clicked.connect(self._on_forget)
        self.overlay.currentIndexChanged.connect(self.changed)
        self._show()

    @property
    def is_shown(self) -> bool:
        """Whether the reference is laid over the image."""
        return self._asked.reference is not None and bool(self.overlay.currentData())

    def allow(self, allowed: bool) -> None:
        """Allow to keep the present answer, or not; a reference of another image goes."""
        self.keep.setEnabled(allowed)
        reference, source = self._asked.reference, self._state.layer
        if reference is not None and (source is None or source.unique_id != reference.image):
            self._on_forget()

    def explain(self, site: str | None, heads: list[str]) -> None:
        """Say what both thumbnails of a pair are, or why there is but one."""
        reference = self._asked.reference
        if reference is None:
            self.caption.setText("")
            return
        label = f"{reference.title}, {reference.query.query.label}"
        missing = "" if site is None else reference.missing(site, heads)
        self.caption.setText(
            f"Left: the reference ({label}). Right: the present. {missing}".strip()
        )

    def _on_keep(self) -> None:
        query, source, request = self._asked.query, self._state.layer, self._asked.request
        if query is None or source is None or request is None:
            return
        name = request.run.model
        title = next((card.title for card in api.models() if card.id == name), name)
        self._asked.reference = Reference(query, title, source.unique_id)
        self._show()
        self.changed.emit()

    def _on_forget(self) -> None:
        self._asked.reference = None
        self.overlay.setCurrentIndex(0)
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        for widget in (self.forget, self.overlay, self.caption):
            widget.setVisible(self._asked.reference is not None)
