"""Horizontal bars of shares, in groups under a title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attribution._plots import BLUE, GREY, begin

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
        middle = Qt.AlignmentFlag.AlignVCenter
        for title, shares in self.groups.items():
            top = bars[title, next(iter(shares))].center().y() - 1.5 * row
            painter.setPen(text)
            painter.drawText(QRectF(0, top, self.width(), row), middle, title)
            for name, share in shares.items():
                bar = bars[title, name]
                line = QRectF(0, bar.center().y() - row / 2, bar.left() - GAP, row)
                painter.setPen(text)
                painter.drawText(line, middle | Qt.AlignmentFlag.AlignRight, name)
                painter.fillRect(bar, BLUE)
                painter.setPen(GREY)
                # The beginning of bars, which may be as short as nothing.
                painter.drawLine(bar.bottomLeft(), bar.topLeft())
                painter.setPen(text)
                line.setLeft(bar.right() + GAP)
                line.setRight(self.width())
                painter.drawText(line, middle, f"{share:.1%}")
        painter.end()
