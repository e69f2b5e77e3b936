"""Which channels of a head listen to which, and how they came into it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QLabel, QSizePolicy, QToolTip, QWidget

from napari_restore.errors import RestoreError
from napari_restore.plugin.attention.heads_view import HeadsView, coloured
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.editors import combo_of
from napari_restore.plugin.widgets.folding import add_button, column_of
from napari_restore.plugin.widgets.plots import BLUE, GREY, begin

if TYPE_CHECKING:
    from napari_restore.explain.attention.head_maps import HeadMaps
    from napari_restore.plugin.attention.asked import PreparedAttention


MOST = 28
"""The largest side of a cell in pixels."""
GAP, LEGEND = 4, 10
"""Between names and cells, and height of the colours in the legend, in pixels."""
STEPS = 64
"""Of the legend's colours."""
NOTHING = np.zeros((0, 0), np.float32)


class PointerText(QWidget):
    """A picture that shows `text_at` the pointer beside it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)

    def text_at(self, at: QPointF) -> str:
        """Return what is under a place in the widget; "" where nothing is."""
        raise NotImplementedError

    def mouseMoveEvent(self, event: Any) -> None:
        """Show the text beside the pointer."""
        at = event.position()
        QToolTip.showText(self.mapToGlobal(at.toPoint()), self.text_at(at), self)


MATRICES = {"matrix": "as used", "softmax": "softmax, before it is changed"}
"""Of `HeadMaps.numbers` of layers between channels, before the name of a head."""


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


HEIGHT = 72
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


class RedundancyPanel(QWidget):
    """How alike what the heads of the chosen layer put out is; computed when it is asked for."""

    def __init__(
        self, asked: PreparedAttention, heads: HeadsView, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._asked, self._heads = asked, heads
        self._query = LatestQuery("The heads cannot be compared", self, self._on_found)
        self.button = add_button(
            self,
            "Compare the heads",
            "Linear CKA of each pair of heads of the chosen layer around the query: 1 where both "
            "put out the same but for a factor and a rotation of channels, 0 where they share nothing",
            self._on_asked,
        )
        self.caption = QLabel(self, wordWrap=True)
        self.caption.hide()
        self.map = HeatMap(self)
        column_of(self, self.button, self.caption, self.map)
        self.allow(False)

    def allow(self, allowed: bool) -> None:
        """Enable the button; without it what was shown goes, too, and what is under way."""
        if not allowed:
            self._query.discard()
            self._say("")
            self.map.show_matrix(NOTHING, (), ())
        self.button.setEnabled(allowed and self._query.is_idle)

    def _say(self, text: str) -> None:
        self.caption.setText(text)
        self.caption.setVisible(bool(text))

    def _on_asked(self) -> None:
        session, query, site = self._asked.session, self._asked.query, self._heads.site
        if session is None or query is None or site is None:
            return
        self.button.setEnabled(False)
        self._say("Comparing …")
        compute = partial(session.redundancy, query.query, [site])
        self._query.submit((site, query.query.label), compute)

    def _on_found(self, about: tuple[str, str], found: Any) -> None:
        site, label = about
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


class MatrixPanel(QWidget):
    """Matrix and channels of the chosen head; of layers that attend to channels."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[HeadMaps, str] | None = None
        tip = "The matrix as the network used it, or the softmax that it began with"
        self.which = combo_of(self, MATRICES, tip)
        self.which.currentIndexChanged.connect(self._draw)
        self.map = HeatMap(self)
        self.map.setToolTip("Row: the channel that listens; column: the one that it listens to")
        self.grouping = GroupingChart(self)
        self.grouping.setToolTip(
            "The layer sorts its channels by this, and cuts the row into heads, for each image"
        )
        self.overlap = QLabel(self, wordWrap=True)
        column_of(self, self.which, self.map, self.grouping, self.overlap)

    def show_head(self, maps: HeadMaps | None, head: str, beside: HeadMaps | None = None) -> bool:
        """Show the matrix of a head, beside the same layer in the reference; return whether it has one."""
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
    """Return by head the Jaccard index of its channels and those of another image or network; {} without any."""
    found = {}
    for head in maps.site.heads:
        name = f"channels.{head}"
        if beside is None or name not in beside.numbers:
            return {}
        own, other = set(maps.numbers[name].tolist()), set(beside.numbers[name].tolist())
        found[head] = len(own & other) / len(own | other)
    return found
