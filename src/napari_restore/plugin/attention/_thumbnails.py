"""Small pictures of all heads of a layer of the network, for one query."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF
from qtpy.QtGui import QColor, QImage, QPainter, QPen

from napari_restore.plugin.attention._layers import limits_of

if TYPE_CHECKING:
    from napari_restore.explain.attention import HeadMaps, QueryMaps

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


class Pair(NamedTuple):
    """The heads of one layer for two queries, on one scale."""

    present: Thumbnails
    reference: Thumbnails | None = None
    """Of the query that is kept, where that has such a layer."""


def thumbnails_of(
    query: QueryMaps, *, spread: bool, reference: QueryMaps | None = None
) -> dict[str, Pair]:
    """Return the thumbnails of all layers of an answer by name; on any thread."""
    found = {}
    for name, maps in query.maps.items():
        kept = None if reference is None else reference.maps.get(name)
        present = of_layer(maps, spread=spread, beside=kept)
        beside = None if kept is None else of_layer(kept, spread=spread, beside=maps)
        found[name] = Pair(present, beside)
    return found


def of_layer(maps: HeadMaps, *, spread: bool, beside: HeadMaps | None = None) -> Thumbnails:
    """Return the thumbnails of a layer, all heads on one scale, also that of those `beside` them."""
    values = stack_of(maps)
    if maps.site.kind in SHARES:
        most = np.nan_to_num(values, nan=-np.inf).max(axis=(1, 2))
        return Thumbnails(None, (0, 0), (0, 0), tuple(map(float, most)))
    known = [values] if beside is None else [values, stack_of(beside)]
    limits = limits_of(np.concatenate([each.ravel() for each in known]), spread=spread)
    small, step = _reduced(values)
    region, query = maps.region, maps.query
    middle = (
        ((query.y0 + query.y1) / 2 / maps.stride - region.y0) / step,
        ((query.x0 + query.x1) / 2 / maps.stride - region.x0) / step,
    )
    heads, height, width = small.shape
    picture = coloured(small.reshape(heads * height, width), limits)
    return Thumbnails(picture, (height, width), middle)


def stack_of(maps: HeadMaps) -> Floats:
    """Return (heads, h, w) the maps of all heads; NaN where a cell was never a candidate."""
    return np.stack([maps.map(head).values for head in maps.site.heads])


def _reduced(values: Floats) -> tuple[Floats, int]:
    """Return maps (heads, h, w) with at most `SIDE` cells along a side: the largest of each block."""
    step = -(-max(values.shape[1:]) // SIDE)
    if step == 1:
        return values, 1
    heads, rows, columns = values.shape
    height, width = -(-rows // step), -(-columns // step)
    padded = np.full((heads, height * step, width * step), -np.inf, np.float32)
    padded[:, :rows, :columns] = np.where(np.isnan(values), -np.inf, values)
    most = padded.reshape(heads, height, step, width, step).max(axis=(2, 4))
    return np.where(np.isinf(most), np.nan, most).astype(np.float32), step


def coloured(values: Floats, limits: tuple[float, float]) -> QImage:
    """Return values (h, w) in viridis, a pixel each; those that are NaN are dark grey."""
    low, high = limits
    shares = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    numbers = np.round(shares * (COLOURS - 1)).astype(np.intp)
    numbers[np.isnan(values)] = COLOURS
    # Indexing makes a new array, row by row.
    argb = _palette()[numbers]
    height, width = values.shape
    image = QImage(argb.tobytes(), width, height, 4 * width, QImage.Format.Format_RGB32)
    # `copy`: the image does not keep its bytes.
    return image.copy()


@cache
def _palette() -> npt.NDArray[np.uint32]:
    """Return viridis as numbers of RGB32, and at last the grey of cells that were never asked."""
    from napari.utils.colormaps import ensure_colormap

    colours = ensure_colormap("viridis").map(np.linspace(0, 1, COLOURS))
    rgb = np.round(255 * np.asarray(colours, float)[:, :3]).astype(np.uint32)
    packed = 0xFF << 24 | rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]
    return np.append(packed, DARK.rgb()).astype(np.uint32)
