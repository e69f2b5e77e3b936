"""Which channels of a head listen to which, and how they came into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_restore.plugin.attention._grouping_view import GroupingChart
from napari_restore.plugin.attention._matrix_view import NOTHING, HeatMap
from napari_restore.plugin.widgets._combo_box import NarrowComboBox

if TYPE_CHECKING:
    from napari_restore.explain.attention import HeadMaps

MATRICES = {"matrix": "as used", "softmax": "softmax, before it is changed"}
"""Of `HeadMaps.numbers` of layers between channels, before the name of a head."""


class MatrixPanel(QWidget):
    """Matrix and channels of the chosen head; of layers that attend to channels."""

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
        self.grouping = GroupingChart(self)
        self.grouping.setToolTip(
            "The layer sorts its channels by this, and cuts the row into heads, for each image"
        )
        self.overlap = QLabel(self)
        self.overlap.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.which, self.map, self.grouping, self.overlap):
            layout.addWidget(widget)

    def show_head(self, maps: HeadMaps | None, head: str, beside: HeadMaps | None = None) -> bool:
        """Show the matrix of a head; returns whether it has one.

        `beside` is the same layer in the reference, whose heads are compared.
        """
        has_one = maps is not None and f"matrix.{head}" in maps.numbers
        self._shown = (maps, head) if maps is not None and has_one else None
        self.grouping.show_heads(maps if has_one else None, head)
        compared = overlaps(maps, beside) if maps is not None and has_one else {}
        self.overlap.setText(
            "Channels shared with the reference: "
            + ", ".join(f"head {name} {share:.0%}" for name, share in compared.items())
        )
        self.overlap.setVisible(bool(compared))
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


def overlaps(maps: HeadMaps, beside: HeadMaps | None) -> dict[str, float]:
    """Return by head how many of its channels another image, or network, has in the same head.

    The Jaccard index: those of both over those of either. Empty where there are none to compare.
    """
    found = {}
    for head in maps.site.heads:
        name = f"channels.{head}"
        if beside is None or name not in beside.numbers:
            return {}
        own, other = set(maps.numbers[name].tolist()), set(beside.numbers[name].tolist())
        found[head] = len(own & other) / len(own | other)
    return found
