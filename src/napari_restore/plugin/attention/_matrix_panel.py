"""Which channels of a head listen to which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_restore.plugin.attention._matrix_view import NOTHING, HeatMap
from napari_restore.plugin.widgets._combo_box import NarrowComboBox

if TYPE_CHECKING:
    from napari_restore.explain.attention import HeadMaps

MATRICES = {"matrix": "as used", "softmax": "softmax, before it is changed"}
"""Of `HeadMaps.numbers` of layers between channels, before the name of a head."""


class MatrixPanel(QWidget):
    """Which channels of the chosen head listen to which; of layers that attend to channels."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[HeadMaps, str] | None = None
        self.which = NarrowComboBox(self)
        for name, title in MATRICES.items():
            self.which.addItem(title, name)
        self.which.setToolTip(
            "The matrix as the network used it, or the softmax that it began with"
        )
        self.which.currentIndexChanged.connect(self._draw)
        self.map = HeatMap(self)
        self.map.setToolTip("Row: the channel that listens; column: the one that it listens to")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.which)
        layout.addWidget(self.map)

    def show_head(self, maps: HeadMaps | None, head: str) -> bool:
        """Show the matrix of a head; returns whether it has one."""
        has_one = maps is not None and f"matrix.{head}" in maps.numbers
        self._shown = (maps, head) if maps is not None and has_one else None
        self._draw()
        return has_one

    def _draw(self) -> None:
        if self._shown is None:
            self.map.show_matrix(NOTHING, (), ())
            return
        maps, head = self._shown
        channels = [str(int(each)) for each in maps.numbers[f"channels.{head}"]]
        matrix = maps.numbers[f"{self.which.currentData()}.{head}"]
        self.map.show_matrix(matrix, channels, channels)
