"""The histogram of what is shown, with marks of clipping, and the tone curve over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_restore.questions import ToneCurve, curve_points, curve_text

BINS = 128
STRAIGHT = ((0.0, 0.0), (1.0, 1.0))
COLOURS = (QColor(230, 80, 70), QColor(80, 190, 90), QColor(80, 140, 240))
GREY = QColor(150, 150, 150)
CLIPPED = 1e-4
"""Share of clipped pixels from which a mark is lit."""
EDGE, NEAR, MARK = 8, 12, 9
"""Margin, reach of the mouse and size of a mark, in pixels."""
APART = 0.02
"""Least distance of two points of the curve along its axis."""
STEP = 0.01
"""How far an arrow key moves a point."""
HELP = (
    "Histogram of what is shown, and the tone curve. Click to add a point and drag it; double click "
    "takes it away. With the keyboard: Page Up and Page Down choose a point, arrows move it, Delete "
    "takes it away"
)


@dataclass(frozen=True)
class Histogram:
    """Counts of display values."""

    counts: npt.NDArray[np.int64]
    """(n, BINS), of red, green and blue or of grey, from black to white."""
    black: float
    """Share of pixels with a band at black or below …"""
    white: float
    """… and at white or above."""

    @classmethod
    def of(cls, pixels: npt.NDArray[Any], white: float) -> Histogram:
        """Return that of pixels (h, w, 3 or 4) or (h, w); alpha 0 and NaN do not count."""
        if pixels.ndim == 2:
            values = pixels[np.isfinite(pixels)][:, None]
        else:
            there = np.isfinite(pixels).all(axis=2)
            if pixels.shape[2] == 4:
                there &= pixels[..., 3] > 0
            values = pixels[there][:, :3]
        if not len(values):
            return cls(np.zeros((values.shape[1], BINS), np.int64), 0, 0)
        places = np.clip(values.astype(np.float32) * (BINS / white), 0, BINS - 1).astype(np.int64)
        counts = np.stack([np.bincount(band, minlength=BINS) for band in places.T])
        dark, bright = ((values <= 0).any(axis=1), (values >= white).any(axis=1))
        return cls(counts, float(dark.mean()), float(bright.mean()))


class HistogramView(QWidget):
    """Draws a `Histogram` and the curve; emits `curve_changed` while a point is moved."""

    curve_changed = Signal(object)
    """The curve as the text of the option; None for the straight line."""
    painted = Signal()
    """It is drawn, and so can be seen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(132)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Histogram and tone curve")
        self.histogram: Histogram | None = None
        self._points: list[tuple[float, float]] = list(STRAIGHT)
        self._grabbed: int | None = None
        """The number of the point that is dragged, or that the keyboard moves."""
        self._is_dragging = False
        self._describe()

    # -- what it shows -----------------------------------------------------------

    def show_histogram(self, histogram: Histogram | None) -> None:
        """Show another; None for nothing."""
        self.histogram = histogram
        self._describe()
        self.update()

    @property
    def curve(self) -> str | None:
        """The curve as the text of the option; None for the straight line."""
        return None if tuple(self._points) == STRAIGHT else curve_text(self._points)

    def show_curve(self, curve: str | None) -> None:
        """Show another curve and emit nothing."""
        if self._is_dragging or curve == self.curve:
            return
        self._points = list(STRAIGHT if curve is None else curve_points(curve))
        self._grabbed = None
        self.update()

    def _describe(self) -> None:
        clipped = ""
        if self.histogram is not None:
            clipped = (
                f". At black: {self.histogram.black:.2%} of the pixels, "
                f"at white: {self.histogram.white:.2%}"
            )
        self.setToolTip(HELP + clipped)
        self.setAccessibleDescription(HELP + clipped)

    # -- places ------------------------------------------------------------------

    @property
    def _box(self) -> QRectF:
        return QRectF(EDGE, EDGE, self.width() - 2 * EDGE, self.height() - 2 * EDGE)

    def place_of(self, point: tuple[float, float]) -> QPointF:
        """Return where a point of the curve lies in the widget."""
        box = self._box
        return QPointF(box.left() + point[0] * box.width(), box.bottom() - point[1] * box.height())

    def _point_at(self, place: QPointF) -> tuple[float, float]:
        box = self._box
        x = (place.x() - box.left()) / box.width()
        y = (box.bottom() - place.y()) / box.height()
        return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)

    def _nearest(self, place: QPointF) -> int | None:
        far = [(self.place_of(point) - place).manhattanLength() for point in self._points]
        nearest = int(np.argmin(far))
        return nearest if far[nearest] <= NEAR else None

    # -- mouse and keyboard --------------------------------------------------------

    def mousePressEvent(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton or not self.isEnabled():
            return
        place = QPointF(event.position())
        self._grabbed = self._nearest(place)
        self._is_dragging = True
        if self._grabbed is None:
            x, y = self._point_at(place)
            others = [known[0] for known in self._points]
            if min(abs(x - other) for other in others) < APART:
                self._is_dragging = False
                return
            self._grabbed = int(np.searchsorted(others, x))
            self._points.insert(self._grabbed, (x, y))
            self._changed()

    def mouseMoveEvent(self, event: Any) -> None:
        if self._is_dragging and self._grabbed is not None:
            self._move(*self._point_at(QPointF(event.position())))

    def mouseReleaseEvent(self, event: Any) -> None:
        self._is_dragging = False

    def mouseDoubleClickEvent(self, event: Any) -> None:
        self._grabbed = self._nearest(QPointF(event.position()))
        self._take_away()

    def keyPressEvent(self, event: Any) -> None:
        moves = {
            Qt.Key.Key_Left: (-STEP, 0),
            Qt.Key.Key_Right: (STEP, 0),
            Qt.Key.Key_Up: (0, STEP),
            Qt.Key.Key_Down: (0, -STEP),
        }
        turns = {Qt.Key.Key_PageUp: 1, Qt.Key.Key_PageDown: -1}
        key = event.key()
        if key in turns:
            # From none to the first, or back to the last.
            grabbed = min(-turns[key], 0) if self._grabbed is None else self._grabbed
            self._grabbed = (grabbed + turns[key]) % len(self._points)
            self.update()
        elif key in moves and self._grabbed is not None:
            x, y = self._points[self._grabbed]
            self._move(x + moves[key][0], y + moves[key][1])
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._take_away()
        else:
            super().keyPressEvent(event)

    def _move(self, x: float, y: float) -> None:
        """Move the grabbed point, between its neighbours."""
        grabbed = self._grabbed
        assert grabbed is not None
        low = self._points[grabbed - 1][0] + APART if grabbed else 0.0
        high = self._points[grabbed + 1][0] - APART if grabbed + 1 < len(self._points) else 1.0
        x = round(min(max(x, low), high), 3)
        self._points[grabbed] = x, round(min(max(y, 0.0), 1.0), 3)
        self._changed()

    def _take_away(self) -> None:
        """Take the grabbed point away; an end goes back to its corner."""
        grabbed, self._grabbed, self._is_dragging = self._grabbed, None, False
        if grabbed is None:
            return
        if 0 < grabbed < len(self._points) - 1:
            del self._points[grabbed]
        else:
            self._points[grabbed] = STRAIGHT[0 if grabbed == 0 else 1]
        self._changed()

    def _changed(self) -> None:
        self.update()
        self.curve_changed.emit(self.curve)

    # -- drawing -------------------------------------------------------------------

    def paintEvent(self, _: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        faint = QColor(text)
        faint.setAlpha(60)
        box = self._box
        painter.fillRect(box, QColor(0, 0, 0, 60))
        painter.setPen(QPen(faint, 1))
        painter.drawRect(box)
        for share in (0.25, 0.5, 0.75):
            painter.drawLine(self.place_of((share, 0)), self.place_of((share, 1)))
        self._draw_counts(painter)
        if self.isEnabled():
            self._draw_curve(painter, text)
        self._draw_marks(painter, faint)
        self.painted.emit()

    def _draw_counts(self, painter: QPainter) -> None:
        if self.histogram is None or not self.histogram.counts.any():
            return
        counts = self.histogram.counts
        # The ends may have all that is clipped: they are marked, and would flatten the others.
        inner = counts[:, 1:-1] if counts[:, 1:-1].any() else counts
        heights = np.minimum(np.sqrt(counts / inner.max()), 1)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Plus)
        for band, line in enumerate(heights):
            colour = QColor(COLOURS[band] if len(heights) == 3 else GREY)
            colour.setAlpha(150)
            painter.setBrush(colour)
            tops = [self.place_of((at / (BINS - 1), h)) for at, h in enumerate(line)]
            painter.drawPolygon(QPolygonF([self.place_of((0, 0)), *tops, self.place_of((1, 0))]))
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)

    def _draw_curve(self, painter: QPainter, colour: QColor) -> None:
        tones = np.linspace(0, 1, 101)
        line = ToneCurve(self._points)(tones)
        painter.setPen(QPen(colour, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        places = [self.place_of(pair) for pair in zip(tones, np.clip(line, 0, 1), strict=True)]
        painter.drawPolyline(QPolygonF(places))
        for number, point in enumerate(self._points):
            painter.setBrush(colour if number == self._grabbed else Qt.BrushStyle.NoBrush)
            painter.drawEllipse(self.place_of(point), 3.5, 3.5)

    def _draw_marks(self, painter: QPainter, faint: QColor) -> None:
        """Draw a triangle in each upper corner, lit where pixels are clipped."""
        if self.histogram is None:
            return
        box = self._box
        painter.setPen(Qt.PenStyle.NoPen)
        for share, x, way, lit in (
            (self.histogram.black, box.left(), 1, COLOURS[2]),
            (self.histogram.white, box.right(), -1, COLOURS[0]),
        ):
            painter.setBrush(lit if share >= CLIPPED else faint)
            corner = QPointF(x, box.top())
            painter.drawPolygon(
                QPolygonF([corner, corner + QPointF(way * MARK, 0), corner + QPointF(0, MARK)])
            )
