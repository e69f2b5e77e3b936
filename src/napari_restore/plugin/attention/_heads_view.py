"""Thumbnails of all heads, a row for each layer of the network; a click chooses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attention._thumbnails import GREY, SIDE, Pair, Thumbnails

if TYPE_CHECKING:
    from napari_restore.models import AttentionSite

GAP, TITLE, SEAM = 4, 16, 1
"""Between two heads, of a row's title, and between the two of a pair, in pixels."""
CHOSEN = QColor(255, 193, 7)
FAR = ("sparse", "full", "cached")


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
        self._pictures: dict[str, Pair] = {}
        self._paired = False
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
        self._pictures = {}
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

    def show_pictures(self, pictures: Mapping[str, Pair], *, replaces: bool) -> None:
        """Show pictures of layers by name; with `replaces` all others are grey from now on."""
        self._pictures = {**({} if replaces else self._pictures), **pictures}
        self.update()

    def show_pairs(self, paired: bool) -> None:
        """Make room for two thumbnails of each head, the reference on the left, or for one."""
        if paired != self._paired:
            self._paired = paired
            self.updateGeometry()
            self.setFixedHeight(self.sizeHint().height())
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
        across, wide = self._across(), self._wide()
        for site in self._sites:
            top += TITLE
            for number, head in enumerate(site.heads):
                row, column = divmod(number, across)
                left = column * (wide + GAP)
                found.append(
                    Cell(site.name, head, QRectF(left, top + row * (SIDE + GAP), wide, SIDE))
                )
            top += -(-len(site.heads) // across) * (SIDE + GAP)
        return found

    def _across(self) -> int:
        return max(1, (self.width() + GAP) // (self._wide() + GAP))

    def _wide(self) -> int:
        """Return the width of the thumbnails of one head."""
        return 2 * SIDE + SEAM if self._paired else SIDE

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

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, on=False)
        font = painter.font()
        font.setPixelSize(TITLE - 5)
        painter.setFont(font)
        text = self.palette().windowText().color()
        sites = {site.name: site for site in self._sites}
        # What is scrolled out of view is not asked for.
        asked = QRectF(event.rect()).adjusted(0, -TITLE, 0, TITLE)
        for cell in self.cells():
            if not cell.box.intersects(asked):
                continue
            site = sites[cell.site]
            number = site.heads.index(cell.head)
            if number == 0:
                painter.setPen(text)
                title = QRectF(0, cell.box.top() - TITLE, self.width(), TITLE)
                painter.drawText(title, Qt.AlignmentFlag.AlignVCenter, site.title)
            pair = self._pictures.get(cell.site)
            present = QRectF(cell.box.right() - SIDE, cell.box.top(), SIDE, SIDE)
            _paint(painter, present, None if pair is None else pair.present, number)
            if self._paired:
                kept = present.translated(-SIDE - SEAM, 0)
                _paint(painter, kept, None if pair is None else pair.reference, number)
            if cell.site == self.site and cell.head in self.heads:
                painter.setPen(QPen(CHOSEN, 2))
                painter.drawRect(cell.box.adjusted(1, 1, -1, -1))
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


def _paint(painter: QPainter, box: QRectF, pictures: Thumbnails | None, number: int) -> None:
    if pictures is None or number >= pictures.heads:
        painter.fillRect(box, GREY)
    else:
        pictures.paint(painter, box, number)
