"""How a layer sorted its channels into heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attribution._plots import BLUE, GREY, begin
from napari_restore.plugin.widgets._pointer_text import PointerText

if TYPE_CHECKING:
    from napari_restore.explain.attention import HeadMaps

HEIGHT, GAP = 72, 4
"""Of the bars, and between them and their texts, in pixels."""
TITLE = "Mean correlation with all channels"


class GroupingChart(PointerText):
    """Mean correlation of every channel with all others, as bars in the order of a layer's heads.

    The bars of the chosen head are blue; lines part the heads, whose names stand below.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.heads: dict[str, npt.NDArray[np.float64]] = {}
        """Mean correlations of the channels of each head, by its name."""
        self._channels: list[int] = []
        self._chosen = ""
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setVisible(False)

    def show_heads(self, maps: HeadMaps | None, chosen: str) -> None:
        """Show the channels of a layer; without any the widget hides."""
        numbers = {} if maps is None else maps.numbers
        named = () if maps is None else maps.site.heads
        heads = [head for head in named if f"correlation.{head}" in numbers]
        self.heads = {head: np.asarray(numbers[f"correlation.{head}"]) for head in heads}
        self._channels = [int(each) for head in heads for each in numbers[f"channels.{head}"]]
        self._chosen = chosen
        self.setVisible(bool(heads))
        self.setAccessibleDescription(
            "; ".join(
                f"head {head}: {values.min():.2f} to {values.max():.2f}"
                for head, values in self.heads.items()
            )
        )
        self.update()

    def text_at(self, at: QPointF) -> str:
        """Return channel, head and value under a place in the widget; "" beside the bars."""
        number = int((at.x() - self._left()) / self._width())
        if at.x() < self._left() or number >= len(self._channels):
            return ""
        names = [head for head, values in self.heads.items() for _ in values]
        value = np.concatenate(list(self.heads.values()))[number]
        return f"channel {self._channels[number]}, head {names[number]}: {value:.3f}"

    def sizeHint(self) -> QSize:
        """Return the size of bars and texts."""
        return QSize(160, HEIGHT + 2 * (self.fontMetrics().height() + GAP))

    def _left(self) -> int:
        return self.fontMetrics().horizontalAdvance("−0.00") + GAP

    def _width(self) -> float:
        return max(1, self.width() - self._left()) / max(1, len(self._channels))

    def paintEvent(self, _: Any) -> None:
        if not self.heads:
            return
        painter, text = begin(self)
        line = self.fontMetrics().height()
        values = np.concatenate(list(self.heads.values()))
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = HEIGHT / (high - low) if high > low else 0.0
        zero = line + GAP + high * scale
        painter.drawText(QRectF(0, 0, self.width(), line), Qt.AlignmentFlag.AlignLeft, TITLE)
        ends = {high: line + GAP} | ({low: line + GAP + HEIGHT - line} if low < high else {})
        for value, top in ends.items():
            box = QRectF(0, top, self._left() - GAP, line)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight, f"{value:.2f}")
        left, bottom = float(self._left()), line + GAP + HEIGHT
        for head, own in self.heads.items():
            wide = len(own) * self._width()
            for number, value in enumerate(own):
                at = left + number * self._width()
                bar = QRectF(at, zero, max(1.0, self._width() - 1), -value * scale)
                painter.fillRect(bar.normalized(), BLUE if head == self._chosen else GREY)
            painter.setPen(GREY)
            painter.drawLine(QPointF(left, line + GAP), QPointF(left, bottom))
            painter.setPen(text)
            below = QRectF(left, bottom + GAP / 2, wide, line)
            painter.drawText(below, Qt.AlignmentFlag.AlignCenter, head)
            left += wide
        painter.end()
