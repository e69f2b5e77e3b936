"""Small plots of an attribution: its path, where its mass lies, and how it ranks pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

BLUE, VERMILION = QColor(86, 180, 233), QColor(230, 120, 30)
"""Of Okabe and Ito's colours: distinguishable with any kind of colour vision."""
CROWDED = 1.5
"""The widest step over the narrowest from which on points crowd towards the ends."""
MIN_SHARE = 5e-4
"""Share that is more than 0.0 %."""
LEFT, RIGHT, TOP, BOTTOM = 58, 8, 18, 16
"""Margins for what is written, in pixels."""
GREY = QColor(140, 140, 140)
TITLES = {"insertion": "brought in", "deletion": "taken away"}
ORDERS = {
    "": ("by the map", BLUE, Qt.PenStyle.SolidLine),
    "nearest_": ("by distance", VERMILION, Qt.PenStyle.DashLine),
    "random_": ("at random", GREY, Qt.PenStyle.DotLine),
}
"""Of each curve, as the record begins its keys: name, colour and line."""
ROW, MARGIN, GAP, HEIGHT = 15, 26, 8, 84
"""Of the legend, of what is written beside a plot, and of a plot, in pixels."""


class PathPlot(QWidget):
    """D along the path, and the attribution added up so far: one line if the map is complete."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(120)
        self._nodes: npt.NDArray[np.float64] = np.zeros((0, 3))
        self.setToolTip(
            "D at the points of the path from the baseline (0) to the image (1), and the integral of "
            "the attributions up to there. They part where the map is not complete"
        )

    def show_nodes(self, nodes: Sequence[Sequence[float]]) -> None:
        """Show (α, D, dD/dα) of each point in the order of α; none clears the plot."""
        known = np.array(nodes, float).reshape(-1, 3)
        self._nodes = known[np.isfinite(known).all(axis=1)]
        self.setVisible(len(self._nodes) > 1)
        self.update()

    def lines(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (n,) D − D at the first point, and the slopes' integral up to each point."""
        alpha, value, slope = self._nodes.T
        return value - value[0], _integral(alpha, slope)

    def paintEvent(self, _: Any) -> None:
        if len(self._nodes) < 2:
            return
        alpha = self._nodes[:, 0]
        lines = self.lines()
        low = float(min(line.min() for line in lines))
        high = float(max(line.max() for line in lines))
        if high - low <= 0:
            high = low + 1
        painter, text = begin(self)
        box = QRectF(LEFT, TOP, self.width() - LEFT - RIGHT, self.height() - TOP - BOTTOM)
        painter.drawRect(box)
        for value, at in ((high, box.top()), (low, box.bottom())):
            place = QRectF(0, at - 8, LEFT - 4, 16)
            painter.drawText(place, Qt.AlignmentFlag.AlignRight, f"{value:.3g}")
        for share, flag in (
            ("α 0", Qt.AlignmentFlag.AlignLeft),
            ("1", Qt.AlignmentFlag.AlignRight),
        ):
            painter.drawText(QRectF(LEFT, box.bottom(), box.width(), BOTTOM), flag, share)
        half = box.width() / 2
        for number, (line, colour, name) in enumerate(
            zip(lines, (BLUE, VERMILION), ("D(γ) − D(x′)", "attribution"), strict=True)
        ):
            painter.setPen(colour)
            painter.drawText(
                QRectF(LEFT + number * half, 0, half, TOP - 2), Qt.AlignmentFlag.AlignLeft, name
            )
            points = [
                QPointF(box.left() + a * box.width(), box.bottom() - share * box.height())
                for a, share in zip(alpha, (line - low) / (high - low), strict=True)
            ]
            style = Qt.PenStyle.SolidLine if number == 0 else Qt.PenStyle.DashLine
            painter.setPen(QPen(colour, 2, style))
            painter.drawPolyline(QPolygonF(points))
            if number == 0:
                painter.setBrush(colour)
                for point in points:
                    painter.drawEllipse(point, 2.0, 2.0)
        painter.setPen(text)
        painter.end()


class RingPlot(QWidget):
    """Shares of the mass in the box and by distance from it."""

    ROW = 15

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rings: dict[str, float] = {}
        self.setToolTip(
            "Where all magnitudes lie, with those of the overview: in the box, and by distance from it in pixels"
        )

    def show_rings(self, rings: Mapping[str, float]) -> None:
        """Show shares by the record's names of the rings, without empty ones at the end."""
        last = max((n for n, share in enumerate(rings.values()) if share >= MIN_SHARE), default=0)
        self._rings = dict(list(rings.items())[: last + 1])
        self.setFixedHeight(self.ROW * len(self._rings) + 4)
        self.setVisible(bool(self._rings))
        self.update()

    def paintEvent(self, _: Any) -> None:
        painter, text = begin(self)
        most = max(self._rings.values(), default=0.0) or 1.0
        width = self.width() - LEFT - 52
        for number, (name, share) in enumerate(self._rings.items()):
            top = number * self.ROW + 2
            painter.setPen(text)
            label = (
                name if name == "box" else f"{name} px" if name[-1] != "-" else f"> {name[:-1]} px"
            )
            where = QRectF(0, top, LEFT + 12, self.ROW)
            painter.drawText(where, Qt.AlignmentFlag.AlignLeft, label)
            bar = QRectF(LEFT + 14, top + 2, max(1.0, (width - 14) * share / most), self.ROW - 5)
            painter.fillRect(bar, BLUE)
            where = QRectF(bar.right() + 4, top, 60, self.ROW)
            painter.drawText(where, Qt.AlignmentFlag.AlignLeft, f"{share:.1%}")
        painter.end()


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
        """Show a check of the record; None, or one without curves, hides the plot."""
        self._checked = checked
        if checked is not None and checked["insertion"]["curve"] is None:
            self._checked = None
        self.setVisible(self._checked is not None)
        self.update()

    def legend(self, name: str) -> list[str]:
        """Return the text above the plot of ``insertion`` or ``deletion``."""
        assert self._checked is not None, "nothing is shown"
        curves = self._checked[name]
        return [f"{title} {curves[f'{key}area']:.3f}" for key, (title, _, _) in ORDERS.items()]

    def paintEvent(self, _: Any) -> None:
        if self._checked is None:
            return
        painter, text = begin(self)
        width = (self.width() - 2 * MARGIN - GAP - 2) / 2
        curves = [
            curve
            for name in TITLES
            for key in ORDERS
            if (curve := self._checked[name].get(f"{key}curve")) is not None
        ]
        low, high = min(map(min, curves)), max(map(max, curves))
        for number, (name, title) in enumerate(TITLES.items()):
            left = MARGIN + number * (width + MARGIN + GAP)
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
            place = QRectF(box.left() - MARGIN, level(value) - 8, MARGIN - 4, 16)
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


def _integral(
    alpha: npt.NDArray[np.float64], slope: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (n,) the integral of the slopes from 0 to each point.

    Of the polynomial that meets them, as the rules of Clenshaw-Curtis and Gauss have it, where
    the points crowd towards the ends; else by trapezoids.
    """
    steps = np.diff(alpha)
    if steps.max() > CROWDED * steps.min():
        series = np.polynomial.Chebyshev.fit(alpha, slope, len(alpha) - 1, domain=[0, 1]).integ()
        found: npt.NDArray[np.float64] = series(alpha) - series(0.0)
        return found
    parts = steps * (slope[1:] + slope[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(parts)])
