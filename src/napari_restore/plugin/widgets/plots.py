"""Small plots: lines in a frame, and bars of shares; and pixels as Qt draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

BLUE, VERMILION = QColor(86, 180, 233), QColor(230, 120, 30)
"""Of Okabe and Ito's colours: distinguishable with any kind of colour vision."""
GREY = QColor(140, 140, 140)
LEFT, RIGHT, TOP, BOTTOM = 58, 8, 18, 16
"""Margins for what is written, in pixels."""
LEFT_OF, RIGHT_OF = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
MIDDLE = Qt.AlignmentFlag.AlignVCenter


class Line(NamedTuple):
    """One line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    """As many; those that are not finite are left out."""
    colour: QColor
    style: Qt.PenStyle = Qt.PenStyle.SolidLine
    has_dots: bool = False


def begin(widget: QWidget) -> tuple[QPainter, QColor]:
    """Return a painter in the colours of the window, and the colour of its text."""
    painter = QPainter(widget)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    font = widget.font()
    font.setPointSizeF(max(6.5, font.pointSizeF() * 0.85))
    painter.setFont(font)
    colour = widget.palette().windowText().color()
    painter.setPen(colour)
    return painter, colour


def limits_of(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the least and the largest value of lines, which differ."""
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return low, high if high > low else low + 1


def draw_lines(
    painter: QPainter,
    box: QRectF,
    lines: Sequence[Line],
    limits: tuple[float, float],
    *,
    span: tuple[float, float] = (0, 1),
    ticks: Mapping[float, str],
    ends: tuple[str, str],
) -> None:
    """Draw lines from `span` × `limits` in a frame: `ticks` beside it, and what its `ends` are below."""
    (first, last), (low, high) = span, limits

    def place(x: float, y: float) -> QPointF:
        across, up = (x - first) / ((last - first) or 1), (y - low) / (high - low)
        return QPointF(box.left() + across * box.width(), box.bottom() - up * box.height())

    painter.drawRect(box)
    for value, text in ticks.items():
        beside = QRectF(box.left() - LEFT, place(first, value).y() - 8, LEFT - 4, 16)
        painter.drawText(beside, RIGHT_OF | MIDDLE, text)
    below = QRectF(box.left(), box.bottom(), box.width(), BOTTOM)
    for flag, text in zip((LEFT_OF, RIGHT_OF), ends, strict=True):
        painter.drawText(below, flag, text)
    for line in lines:
        painter.setPen(QPen(line.colour, 2, line.style))
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        painter.drawPolyline(QPolygonF(points))
        painter.setBrush(line.colour)
        for point in points if line.has_dots else ():
            painter.drawEllipse(point, 2.0, 2.0)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def draw_plot(
    painter: QPainter, widget: QWidget, lines: Sequence[Line], low: float, high: float, **more: Any
) -> None:
    """Draw lines over all of a widget, their names above them; `more` as in `draw_lines`."""
    box = QRectF(LEFT, TOP, widget.width() - LEFT - RIGHT, widget.height() - TOP - BOTTOM)
    ticks = {value: f"{value:.3g}" for value in (low, high)}
    draw_lines(painter, box, lines, (low, high), ticks=ticks, **more)
    for number, line in enumerate(lines):
        painter.setPen(line.colour)
        name = QRectF(LEFT + number * box.width() / 3, 0, box.width() / 3, TOP - 2)
        painter.drawText(name, LEFT_OF, line.name)


GAP = 6
"""Between a name, its bar and its number, and between groups, in pixels."""
THIN = 0.6
"""Height of a bar in rows."""
Groups = Mapping[str, Mapping[str, float]]


class BarChart(QWidget):
    """Shares of 1, a row each: name, bar and number; the bars of a group are on one scale, from 0."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.groups: Groups = {}
        """Shares by name, by the title of their group."""
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setVisible(False)

    def show_groups(self, groups: Groups) -> None:
        """Show these; none hides the chart."""
        resized = [len(group) for group in groups.values()] != [*map(len, self.groups.values())]
        self.groups = groups
        # A layout of the whole panel: not while a query is dragged, whose groups stay the same.
        if resized:
            self.updateGeometry()
        self.setVisible(bool(groups))
        self.setAccessibleDescription("; ".join(self._sentences()))
        self.update()

    def _sentences(self) -> list[str]:
        return [
            f"{title}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            for title, shares in self.groups.items()
        ]

    def bars(self) -> dict[tuple[str, str], QRectF]:
        """Return where each bar is painted, by its group and name."""
        # Those of the font that `begin` sets would need a painter; this one is larger.
        metrics, row = self.fontMetrics(), self._row()
        names = [name for shares in self.groups.values() for name in shares]
        left = max((metrics.horizontalAdvance(name) for name in names), default=0) + GAP
        width = max(1.0, self.width() - left - metrics.horizontalAdvance("100.0%") - GAP)
        found, top = {}, 0.0
        for title, shares in self.groups.items():
            most = max(shares.values())
            top += row
            for name, share in shares.items():
                height = THIN * row
                long = width * max(0.0, share) / (most if most > 0 else 1.0)
                found[title, name] = QRectF(left, top + (row - height) / 2, long, height)
                top += row
            top += GAP
        return found

    def _row(self) -> int:
        return self.fontMetrics().height()

    def sizeHint(self) -> QSize:
        """Return the size of all rows."""
        rows = sum(1 + len(shares) for shares in self.groups.values())
        return QSize(160, rows * self._row() + len(self.groups) * GAP)

    def minimumSizeHint(self) -> QSize:
        """Return the height of all rows."""
        return self.sizeHint()

    def paintEvent(self, _: Any) -> None:
        painter, text = begin(self)
        row, bars = self._row(), self.bars()
        for title, shares in self.groups.items():
            top = bars[title, next(iter(shares))].center().y() - 1.5 * row
            painter.setPen(text)
            painter.drawText(QRectF(0, top, self.width(), row), MIDDLE, title)
            for name, share in shares.items():
                bar = bars[title, name]
                line = QRectF(0, bar.center().y() - row / 2, bar.left() - GAP, row)
                painter.setPen(text)
                painter.drawText(line, MIDDLE | RIGHT_OF, name)
                painter.fillRect(bar, BLUE)
                painter.setPen(GREY)
                # The beginning of bars, which may be as short as nothing.
                painter.drawLine(bar.bottomLeft(), bar.topLeft())
                painter.setPen(text)
                line.setLeft(bar.right() + GAP)
                line.setRight(self.width())
                painter.drawText(line, MIDDLE, f"{share:.1%}")
        painter.end()


def pixmap_of(pixels: npt.NDArray[np.uint8]) -> QPixmap:
    """Return a picture (h, w, 3) of red, green and blue, or (h, w, 4) with alpha, as Qt draws it."""
    height, width, count = pixels.shape
    form = QImage.Format.Format_RGB888 if count == 3 else QImage.Format.Format_RGBA8888
    # `copy`: the image does not keep its bytes.
    return QPixmap.fromImage(QImage(pixels.tobytes(), width, height, count * width, form).copy())
