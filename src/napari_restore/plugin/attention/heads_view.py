"""Thumbnails of all heads, a row for each layer of the network; a click chooses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.layers.display import largest_of_blocks, signed_colours, weight_limits

if TYPE_CHECKING:
    from napari_restore.explain.attention.head_maps import HeadMaps, QueryMaps
    from napari_restore.models import AttentionSite


SIDE = 44
"""Of a thumbnail in pixels."""
GREY, DARK = QColor(128, 128, 128, 90), QColor(90, 90, 90)
BAR, MARK = QColor(86, 180, 233), QColor(230, 30, 30)
ARM = 3
"""Pixels from the middle of the query's cross to its ends."""
SHARES = ("routing", "gate")
"""Kinds whose numbers belong to the query's own cell: they are drawn as bars."""
COLOURS = 256
Floats = npt.NDArray[np.float32]


class Thumbnails(NamedTuple):
    """The heads of one layer for one query, ready to be painted."""

    picture: QImage | None
    """All heads, one below the other, a pixel for each cell or block of cells."""
    shape: tuple[float, float]
    """Height and width of one head in `picture`."""
    query: tuple[float, float]
    """Row and column of the query there."""
    shares: tuple[float, ...] = ()
    """In place of a picture: a share of 1 for every head."""

    @property
    def heads(self) -> int:
        """Number of heads."""
        if self.picture is None:
            return len(self.shares)
        return round(self.picture.height() / self.shape[0])

    def paint(self, painter: QPainter, box: QRectF, head: int) -> None:
        """Paint the picture of a head, by its number, in the middle of `box`."""
        if self.picture is None:
            painter.fillRect(box, GREY)
            height = box.height() * min(1.0, max(0.0, self.shares[head]))
            left, width = box.left() + box.width() / 4, box.width() / 2
            painter.fillRect(QRectF(left, box.bottom() - height, width, height), BAR)
            return
        height, width = self.shape
        scale = min(box.height() / height, box.width() / width)
        target = QRectF(0, 0, width * scale, height * scale)
        target.moveCenter(box.center())
        painter.drawImage(target, self.picture, QRectF(0, head * height, width, height))
        painter.setPen(QPen(MARK, 1.5))
        at = target.topLeft() + QPointF(self.query[1] * scale, self.query[0] * scale)
        painter.drawLine(at - QPointF(ARM, 0), at + QPointF(ARM, 0))
        painter.drawLine(at - QPointF(0, ARM), at + QPointF(0, ARM))


class ComparedHeads(NamedTuple):
    """The heads of one layer for two queries, on one scale."""

    present: Thumbnails
    reference: Thumbnails | None = None
    """Of the query that is kept, where that has such a layer."""


def thumbnails_of(
    query: QueryMaps, *, spread: bool, reference: QueryMaps | None = None
) -> dict[str, ComparedHeads]:
    """Return the thumbnails of all layers of an answer by name; on any thread."""
    found = {}
    for name, maps in query.maps.items():
        kept = None if reference is None else reference.maps.get(name)
        present = of_layer(maps, spread=spread, beside=kept)
        beside = None if kept is None else of_layer(kept, spread=spread, beside=maps)
        found[name] = ComparedHeads(present, beside)
    return found


def of_layer(maps: HeadMaps, *, spread: bool, beside: HeadMaps | None = None) -> Thumbnails:
    """Return the thumbnails of a layer, all heads on one scale, also that of those `beside` them."""
    values = stack_of(maps)
    if maps.site.kind in SHARES:
        most = np.nan_to_num(values, nan=-np.inf).max(axis=(1, 2))
        return Thumbnails(None, (0, 0), (0, 0), tuple(map(float, most)))
    known = [values] if beside is None else [values, stack_of(beside)]
    together = np.concatenate([each.ravel() for each in known])
    limits = weight_limits(together, spread=spread, is_signed=maps.kind.is_signed)
    step = -(-max(values.shape[1:]) // SIDE)
    small = largest_of_blocks(values, step) if step > 1 else values
    region, query = maps.region, maps.query
    middle = (
        ((query.y0 + query.y1) / 2 / maps.stride - region.y0) / step,
        ((query.x0 + query.x1) / 2 / maps.stride - region.x0) / step,
    )
    heads, height, width = small.shape
    drawn = small.reshape(heads * height, width)
    picture = coloured(drawn, limits, is_signed=maps.kind.is_signed)
    return Thumbnails(picture, (height, width), middle)


def stack_of(maps: HeadMaps) -> Floats:
    """Return (heads, h, w) the maps of all heads; NaN where a cell was never a candidate."""
    return np.stack([maps.map(head).values for head in maps.site.heads])


def coloured(values: Floats, limits: tuple[float, float], *, is_signed: bool = False) -> QImage:
    """Return values (h, w) in viridis, or in colours around 0, a pixel each; NaN is dark grey."""
    low, high = limits
    shares = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    numbers = np.round(shares * (COLOURS - 1)).astype(np.intp)
    numbers[np.isnan(values)] = COLOURS
    # Indexing makes a new array, row by row.
    argb = _palette(is_signed=is_signed)[numbers]
    height, width = values.shape
    image = QImage(argb.tobytes(), width, height, 4 * width, QImage.Format.Format_RGB32)
    # `copy`: the image does not keep its bytes.
    return image.copy()


@cache
def _palette(*, is_signed: bool) -> npt.NDArray[np.uint32]:
    """Return viridis or diverging colours as numbers of RGB32, and at last the grey of blank cells."""
    from napari.utils.colormaps import ensure_colormap

    scale = signed_colours() if is_signed else ensure_colormap("viridis")
    colours = np.asarray(scale.map(np.linspace(0, 1, COLOURS)), float)
    alpha = colours[:, 3:]
    rgb = np.round(255 * (alpha * colours[:, :3] + 1 - alpha)).astype(np.uint32)
    packed = 0xFF << 24 | rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]
    return np.append(packed, DARK.rgb()).astype(np.uint32)


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
        self._pictures: dict[str, ComparedHeads] = {}
        self._paired = False
        self.site: str | None = None
        """The chosen layer."""
        self.heads: list[str] = []
        """Its chosen heads."""
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Heads")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Each head's map for the query: click one to lay it over the image, with Ctrl "
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

    def show_pictures(self, pictures: Mapping[str, ComparedHeads], *, replaces: bool) -> None:
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
        for cell in self.cells():
            if cell.box.contains(event.position()):
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
