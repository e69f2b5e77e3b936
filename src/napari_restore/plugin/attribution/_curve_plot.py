"""The check of a map as small plots: D as pixels are brought in and taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_restore.plugin.attribution._plots import BLUE, VERMILLION, begin

GREY = QColor(140, 140, 140)
TITLES = {"insertion": "brought in", "deletion": "taken away"}
ORDERS = {
    "": ("by the map", BLUE, Qt.PenStyle.SolidLine),
    "nearest_": ("by distance", VERMILLION, Qt.PenStyle.DashLine),
    "random_": ("at random", GREY, Qt.PenStyle.DotLine),
}
"""Of each curve, as the record begins its keys: name, colour and line."""
ROW, LEFT, GAP, HEIGHT = 15, 26, 8, 84
"""Of the legend, of what is written beside a plot, and of a plot, in pixels."""


class CurvePlot(QWidget):
    """Insertion and deletion beside each other, their areas above; hidden where there is no check."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(ROW * (1 + len(ORDERS)) + HEIGHT + ROW + 4)
        self._checked: Mapping[str, Any] | None = None
        self.setToolTip(
            "The share of D(x) − D(x′) over the share of pixels that are brought in, or taken away, "
            "those with the largest shares first. A map that ranks pixels well has an area near 1 "
            "under the left curve, near 0 under the right one, and beats distance from the box"
        )
        self.setVisible(False)

    def show_check(self, checked: Mapping[str, Any] | None) -> None:
        """A check as the record has it; None, or one without curves, hides the plot."""
        self._checked = checked
        if checked is not None and checked["insertion"]["curve"] is None:
            self._checked = None
        self.setVisible(self._checked is not None)
        self.update()

    def legend(self, name: str) -> list[str]:
        """What is written above the plot of ``insertion`` or ``deletion``."""
        assert self._checked is not None, "nothing is shown"
        curves = self._checked[name]
        return [f"{title} {curves[f'{key}area']:.3f}" for key, (title, _, _) in ORDERS.items()]

    def paintEvent(self, _: Any) -> None:
        if self._checked is None:
            return
        painter, text = begin(self)
        width = (self.width() - 2 * LEFT - GAP - 2) / 2
        curves = [
            curve
            for name in TITLES
            for key in ORDERS
            if (curve := self._checked[name].get(f"{key}curve")) is not None
        ]
        low, high = min(map(min, curves)), max(map(max, curves))
        for number, (name, title) in enumerate(TITLES.items()):
            left = LEFT + number * (width + LEFT + GAP)
            painter.setPen(text)
            painter.drawText(
                QRectF(left, 0, width, ROW), Qt.AlignmentFlag.AlignLeft, f"Pixels {title}"
            )
            for row, (line, (_, colour, _)) in enumerate(
                zip(self.legend(name), ORDERS.values(), strict=True), 1
            ):
                painter.setPen(colour)
                place = QRectF(left, row * ROW, width, ROW)
                painter.drawText(place, Qt.AlignmentFlag.AlignLeft, line)
            box = QRectF(left, ROW * (1 + len(ORDERS)) + 2, width, HEIGHT)
            self._draw(painter, text, box, self._checked[name], (low, high))
        painter.end()

    def _draw(
        self,
        painter: QPainter,
        text: QColor,
        box: QRectF,
        curves: Mapping[str, Any],
        limits: tuple[float, float],
    ) -> None:
        assert self._checked is not None
        low, high = limits

        def level(value: float) -> float:
            return box.bottom() - (value - low) / (high - low) * box.height()

        painter.setPen(text)
        painter.drawRect(box)
        for value in (0, 1):
            place = QRectF(box.left() - LEFT, level(value) - 8, LEFT - 4, 16)
            painter.drawText(
                place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value}"
            )
        for share, flag in (("0", Qt.AlignmentFlag.AlignLeft), ("1", Qt.AlignmentFlag.AlignRight)):
            painter.drawText(QRectF(box.left(), box.bottom(), box.width(), ROW), flag, share)
        for key, (_, colour, style) in ORDERS.items():
            # Records of earlier versions have the map's alone.
            if curves.get(f"{key}curve") is None:
                continue
            points = [
                QPointF(box.left() + at * box.width(), level(value))
                for at, value in zip(self._checked["at"], curves[f"{key}curve"], strict=True)
            ]
            painter.setPen(QPen(colour, 2, style))
            painter.drawPolyline(QPolygonF(points))
