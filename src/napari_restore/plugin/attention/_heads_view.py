"""Thumbnails of all heads, a row for each layer of the network; a click chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attention._layers import limits_of

if TYPE_CHECKING:
    from napari_restore.explain.attention import HeadMaps, QueryMaps
    from napari_restore.models import AttentionSite

SIDE, GAP, TITLE = 44, 4, 16
"""Of a thumbnail, between two, and of a row's title, in pixels."""
GREY, DARK = QColor(128, 128, 128, 90), QColor(90, 90, 90)
CHOSEN, MARK = QColor(255, 193, 7), QColor(230, 30, 30)
FAR = ("sparse", "full", "cached")
SHARES = ("routing", "gate")
"""Kinds whose numbers belong to the query's own cell: they are drawn as bars."""


class Cell(NamedTuple):
    """Where the thumbnail of one head is."""

    site: str
    head: str
    box: QRectF


class HeadsView(QWidget):
    """All heads of all layers for one query; grey where nothing is computed yet.

    A click chooses a head, with Ctrl one more; [ and ] step through the heads of a layer.
    """

    chosen = Signal(str, list)
    """Name of the layer, and names of its chosen heads."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sites: tuple[AttentionSite, ...] = ()
        self._shown: dict[str, HeadMaps] = {}
        self._pictures: dict[str, list[QImage]] = {}
        self._spread = False
        self.site: str | None = None
        """The chosen layer."""
        self.heads: list[str] = []
        """Its chosen heads."""
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Each head's weights for the query: click one to lay it over the image, with Ctrl "
            "several, [ and ] for the one before and after. Grey: not computed yet"
        )

    # -- what is shown -------------------------------------------------------------

    def show_sites(self, sites: Sequence[AttentionSite]) -> None:
        """Show rows for these layers, still grey; none clears the view."""
        self._sites = tuple(sites)
        self._shown, self._pictures = {}, {}
        names = [site.name for site in sites]
        if self.site not in names:
            # Those that reach beyond a window say most.
            far = [site for site in sites if site.kind in FAR]
            first = next(iter((*far, *sites)), None)
            self.site = None if first is None else first.name
            self.heads = [] if first is None else [first.heads[0]]
        self.updateGeometry()
        self.setFixedHeight(self.sizeHint().height())
        self.update()

    def show_query(self, query: QueryMaps, *, spread: bool, replaces: bool) -> None:
        """Show the maps of a query; with `replaces` those of another one are grey from now on."""
        if replaces:
            self._shown, self._pictures = {}, {}
        self._spread = spread
        for name, maps in query.maps.items():
            self._shown[name] = maps
            self._pictures[name] = _thumbnails(maps, spread=spread)
        self.update()

    def choose(self, site: str, heads: Sequence[str]) -> None:
        """Choose heads of a layer, as clicks would."""
        self.site, self.heads = site, list(heads)
        self.update()
        self.chosen.emit(site, list(heads))

    def step(self, by: int) -> None:
        """Choose the head after the chosen one, or before."""
        site = next((site for site in self._sites if site.name == self.site), None)
        if site is not None and self.heads:
            at = site.heads.index(self.heads[-1]) + by
            self.choose(site.name, [site.heads[at % len(site.heads)]])

    # -- geometry ------------------------------------------------------------------

    def cells(self) -> list[Cell]:
        """Return where each head is drawn, row by row."""
        found, top = [], 0.0
        across = self._across()
        for site in self._sites:
            top += TITLE
            for number, head in enumerate(site.heads):
                row, column = divmod(number, across)
                left = column * (SIDE + GAP)
                found.append(
                    Cell(site.name, head, QRectF(left, top + row * (SIDE + GAP), SIDE, SIDE))
                )
            top += -(-len(site.heads) // across) * (SIDE + GAP)
        return found

    def _across(self) -> int:
        return max(1, (max(self.width(), SIDE) + GAP) // (SIDE + GAP))

    def sizeHint(self) -> QSize:
        """Return the size of all rows."""
        cells = self.cells()
        bottom = max((cell.box.bottom() for cell in cells), default=0.0)
        return QSize(4 * (SIDE + GAP), int(bottom) + GAP)

    def resizeEvent(self, event: Any) -> None:
        """Take the height of all rows at this width."""
        super().resizeEvent(event)
        height = self.sizeHint().height()
        if self.height() != height:
            self.setFixedHeight(height)

    # -- painting and clicks -------------------------------------------------------

    def paintEvent(self, _: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, on=False)
        top: dict[str, float] = {}
        titles = {site.name: site.title for site in self._sites}
        numbers = {site.name: {h: n for n, h in enumerate(site.heads)} for site in self._sites}
        for cell in self.cells():
            top.setdefault(cell.site, cell.box.top())
            pictures = self._pictures.get(cell.site)
            if pictures is None:
                painter.fillRect(cell.box, GREY)
            else:
                painter.drawImage(cell.box, pictures[numbers[cell.site][cell.head]])
            if cell.site == self.site and cell.head in self.heads:
                painter.setPen(QPen(CHOSEN, 2))
                painter.drawRect(cell.box.adjusted(1, 1, -1, -1))
        painter.setPen(self.palette().windowText().color())
        font = painter.font()
        font.setPixelSize(TITLE - 5)
        painter.setFont(font)
        for name, at in top.items():
            box = QRectF(0, at - TITLE, self.width(), TITLE)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, titles[name])
        painter.end()

    def mousePressEvent(self, event: Any) -> None:
        at = event.position() if hasattr(event, "position") else event.localPos()
        for cell in self.cells():
            if cell.box.contains(at):
                with_ctrl = event.modifiers() & Qt.KeyboardModifier.ControlModifier
                heads = [cell.head]
                if with_ctrl and cell.site == self.site:
                    heads = [head for head in self.heads if head != cell.head]
                    heads += [cell.head] if cell.head not in self.heads else []
                self.choose(cell.site, heads or [cell.head])
                return

    def keyPressEvent(self, event: Any) -> None:
        steps = {"[": -1, "]": 1}
        if event.text() in steps:
            self.step(steps[event.text()])
        else:
            super().keyPressEvent(event)


def _thumbnails(maps: HeadMaps, *, spread: bool) -> list[QImage]:
    """Return a picture of each head, all of them on one scale."""
    found = [maps.map(head).values for head in maps.site.heads]
    limits = limits_of(np.stack(found), spread=spread)
    if maps.site.kind in SHARES:
        return [_bar(float(np.nanmax(values))) for values in found]
    region, query = maps.map(maps.site.heads[0]).region, maps.query
    middle = (
        (query.y0 + query.y1) / 2 / maps.stride - region.y0,
        (query.x0 + query.x1) / 2 / maps.stride - region.x0,
    )
    return [_thumbnail(values, limits, middle) for values in found]


def _thumbnail(
    values: npt.NDArray[np.float32], limits: tuple[float, float], query: tuple[float, float]
) -> QImage:
    """Return a map (h, w) within a square, never asked cells dark, the query marked."""
    small, step = _reduced(values)
    image = QImage(SIDE, SIDE, QImage.Format.Format_ARGB32)
    image.fill(QColor(0, 0, 0, 0))
    scale = SIDE / max(small.shape)
    height, width = (side * scale for side in small.shape)
    corner = (SIDE - height) / 2, (SIDE - width) / 2
    painter = QPainter(image)
    painter.drawImage(QRectF(corner[1], corner[0], width, height), _coloured(small, limits))
    painter.setPen(QPen(MARK, 1.5))
    y, x = (corner[axis] + query[axis] / step * scale for axis in (0, 1))
    painter.drawLine(int(x - 3), int(y), int(x + 3), int(y))
    painter.drawLine(int(x), int(y - 3), int(x), int(y + 3))
    painter.end()
    return image


def _reduced(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], int]:
    """Return a map with at most `SIDE` cells along a side: the largest of each block."""
    step = -(-max(values.shape) // SIDE)
    if step == 1:
        return values, 1
    height, width = (-(-side // step) for side in values.shape)
    padded = np.full((height * step, width * step), -np.inf, np.float32)
    padded[: values.shape[0], : values.shape[1]] = np.where(np.isnan(values), -np.inf, values)
    most = padded.reshape(height, step, width, step).max(axis=(1, 3))
    return np.where(np.isinf(most), np.nan, most).astype(np.float32), step


def _coloured(values: npt.NDArray[np.float32], limits: tuple[float, float]) -> QImage:
    """Return a map in viridis; cells that were never asked are dark grey."""
    from napari.utils.colormaps import ensure_colormap

    low, high = limits
    share = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    colours = np.array(ensure_colormap("viridis").map(share.ravel()), float)
    rgb = (255 * colours[:, :3]).astype(np.uint8).reshape(*values.shape, 3)
    rgb[np.isnan(values)] = (DARK.red(), DARK.green(), DARK.blue())
    rgb = np.ascontiguousarray(rgb)
    height, width = values.shape
    image = QImage(rgb.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    # The array goes with this function.
    return image.copy()


def _bar(share: float) -> QImage:
    """Return a bar as high as a share of 1."""
    image = QImage(SIDE, SIDE, QImage.Format.Format_ARGB32)
    image.fill(GREY)
    painter = QPainter(image)
    height = SIDE * min(1.0, max(0.0, share))
    painter.fillRect(QRectF(SIDE / 4, SIDE - height, SIDE / 2, height), QColor(86, 180, 233))
    painter.end()
    return image
