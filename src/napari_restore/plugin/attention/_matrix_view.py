"""A matrix as colours, with names of its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attention._thumbnails import coloured
from napari_restore.plugin.attribution._plots import begin
from napari_restore.plugin.widgets._pointer_text import PointerText

MOST = 28
"""The largest side of a cell in pixels."""
GAP, LEGEND = 4, 10
"""Between names and cells, and height of the colours in the legend, in pixels."""
STEPS = 64
"""Of the legend's colours."""
NOTHING = np.zeros((0, 0), np.float32)


class HeatMap(PointerText):
    """A matrix in viridis, on a scale from its least value or a given one to its largest.

    Names stand beside cells where there is room; the value under the pointer is shown beside it.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.values: npt.NDArray[np.float32] = NOTHING
        """(rows, columns)."""
        self._rows: Sequence[str] = ()
        self._columns: Sequence[str] = ()
        self._limits = (0.0, 1.0)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setVisible(False)

    def show_matrix(
        self,
        values: npt.ArrayLike,
        rows: Sequence[str],
        columns: Sequence[str],
        limits: tuple[float, float] | None = None,
    ) -> None:
        """Show values (rows, columns), NaN in grey; an empty matrix hides the widget."""
        self.values = np.asarray(values, np.float32)
        self._rows, self._columns = rows, columns
        known = self.values[np.isfinite(self.values)]
        least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        low, high = limits or (least, most)
        self._limits = (low, high if high > low else low + 1)
        self.setVisible(self.values.size > 0)
        self.updateGeometry()
        self.update()

    def text_at(self, at: QPointF) -> str:
        """Return what is under a place in the widget: row, column and value; "" beside the cells."""
        box, side = self._box(), self._side()
        if not box.contains(at):
            return ""
        row, column = int((at.y() - box.top()) / side), int((at.x() - box.left()) / side)
        row, column = min(row, len(self._rows) - 1), min(column, len(self._columns) - 1)
        value = float(self.values[row, column])
        shown = "not known" if np.isnan(value) else f"{value:.3f}"
        return f"{self._rows[row]} × {self._columns[column]}: {shown}"

    # -- geometry ------------------------------------------------------------------

    def _side(self) -> float:
        """Return the side of a cell."""
        columns = max(1, self.values.shape[1])
        return min(MOST, max(1.0, (self.width() - self._margin() - GAP) / columns))

    def _margin(self) -> int:
        """Return the room for names on the left."""
        metrics = self.fontMetrics()
        return max((metrics.horizontalAdvance(name) for name in self._rows), default=0) + GAP

    def _box(self) -> QRectF:
        height, width = self.values.shape
        side = self._side()
        return QRectF(self._margin(), self.fontMetrics().height(), width * side, height * side)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height of names, cells and legend at a width."""
        rows, columns = self.values.shape
        side = min(MOST, max(1.0, (width - self._margin() - GAP) / max(1, columns)))
        return int(rows * side + 2 * self.fontMetrics().height() + LEGEND + 3 * GAP)

    def sizeHint(self) -> QSize:
        """Return the size at the present width."""
        return QSize(160, self.heightForWidth(max(160, self.width())))

    # -- painting ------------------------------------------------------

    def paintEvent(self, _: Any) -> None:
        if not self.values.size:
            return
        painter, _text = begin(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, on=False)
        box, side, line = self._box(), self._side(), self.fontMetrics().height()
        painter.drawImage(box, coloured(self.values, self._limits))
        middle, right = Qt.AlignmentFlag.AlignVCenter, Qt.AlignmentFlag.AlignRight
        # Every name, or as many as do not overlap.
        for number in range(0, len(self._rows), max(1, -(-line // int(max(1, side))))):
            at = QRectF(0, box.top() + (number + 0.5) * side - line / 2, self._margin() - GAP, line)
            painter.drawText(at, middle | right, self._rows[number])
        metrics = self.fontMetrics()
        wide = max(metrics.horizontalAdvance(name) for name in self._columns) + GAP
        for number in range(0, len(self._columns), max(1, -(-wide // int(max(1, side))))):
            left = box.left() + (number + 0.5) * side - wide / 2
            at = QRectF(left, 0, wide, line)
            painter.drawText(at, Qt.AlignmentFlag.AlignCenter, self._columns[number])
        self._paint_legend(painter, box)
        painter.end()

    def _paint_legend(self, painter: QPainter, box: QRectF) -> None:
        low, high = self._limits
        wide = max(80.0, min(box.width(), 160.0))
        bar = QRectF(box.left(), box.bottom() + GAP, wide, LEGEND)
        steps = np.linspace(low, high, STEPS, dtype=np.float32)[None]
        painter.drawImage(bar, coloured(steps, self._limits))
        under = QRectF(bar.left(), bar.bottom(), wide, self.fontMetrics().height())
        painter.drawText(under, Qt.AlignmentFlag.AlignLeft, f"{low:.2g}")
        painter.drawText(under, Qt.AlignmentFlag.AlignRight, f"{high:.2g}")
