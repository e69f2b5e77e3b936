"""How alike the heads of a layer are, computed when it is asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_restore.errors import RestoreError
from napari_restore.plugin.attention._action_bar import result_of
from napari_restore.plugin.attention._matrix_view import NOTHING, HeatMap
from napari_restore.plugin.tasks._background import in_background

if TYPE_CHECKING:
    from napari_restore.plugin.attention._asked import Asked
    from napari_restore.plugin.attention._heads_view import HeadsView


class RedundancyPanel(QWidget):
    """How alike what the heads of the chosen layer put out is; computed when it is asked for."""

    def __init__(self, asked: Asked, heads: HeadsView, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._asked, self._heads = asked, heads
        self._number = 0
        self._is_busy = False
        self.button = QPushButton("Compare the heads", self)
        self.button.setToolTip(
            "Linear CKA of each pair of heads of the chosen layer around the query: 1 where both "
            "put out the same but for a factor and a rotation of channels, 0 where they share nothing"
        )
        self.button.clicked.connect(self._on_asked)
        self.caption = QLabel(self)
        self.caption.setWordWrap(True)
        self.caption.hide()
        self.map = HeatMap(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.caption, self.map):
            layout.addWidget(widget)
        self.allow(False)

    def allow(self, allowed: bool) -> None:
        """Enable the button; without it what was shown goes, too, and what is under way."""
        if not allowed:
            self._number += 1
            self._is_busy = False
            self._say("")
            self.map.show_matrix(NOTHING, (), ())
        self.button.setEnabled(allowed and not self._is_busy)

    def _say(self, text: str) -> None:
        self.caption.setText(text)
        self.caption.setVisible(bool(text))

    def _on_asked(self) -> None:
        session, query, site = self._asked.session, self._asked.query, self._heads.site
        if session is None or query is None or site is None:
            return
        self._number += 1
        self._is_busy = True
        self.button.setEnabled(False)
        self._say("Comparing …")
        compute = partial(session.redundancy, query.query, [site])
        about = self._number, site, query.query.label
        in_background(partial(result_of, compute), self._on_found, *about)

    def _on_found(self, number: int, site: str, label: str, found: Any) -> None:
        if number != self._number or self._asked.session is None:
            return
        self._is_busy = False
        self.button.setEnabled(True)
        if isinstance(found, RestoreError):
            # Not each layer has several heads.
            self._say(str(found))
            self.map.show_matrix(NOTHING, (), ())
            return
        names = self._asked.site(site).heads
        matrix = found[site]
        others = matrix[~np.eye(len(matrix), dtype=bool)]
        known = others[np.isfinite(others)]
        mean = f"; mean of two heads {known.mean():.2f}" if known.size else ""
        self._say(f"{self._asked.title(site)} · {label}: CKA{mean}")
        self.map.show_matrix(matrix, names, names, (0.0, 1.0))
