"""Horizontal bars of shares, in groups under a title."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_restore.plugin.attribution.plots import BLUE, GREY, begin

if TYPE_CHECKING:
    from napari_restore.explain.attention.head_maps import QueryMaps


BANDS = ("low", "middle", "high")


def numbers_text(query: QueryMaps, site: str, head: str) -> str:
    """Return what is known of one head, in a few lines."""
    maps = query.maps[site]
    number = maps.index(head)
    measured = query.measures[site][number]
    lines = [f"{maps.site.title}, head {head} · {query.query.label}"]
    if maps.site.kind in ("routing", "gate"):
        lines.append(f"share {float(maps.weights[number, 0]):.2f} in the query's own cell")
    elif maps.site.kind == "channel":
        lines.append(
            "It mixes channels, not places: the map is likeness to the query, derived. Entropy of "
            f"its matrix {measured['entropy']:.3f}, contribution here {measured['contribution']:.3g}"
        )
    elif measured["entropy"] is not None:
        lines.append(
            f"entropy {measured['entropy']:.3f} (1: equal weights), as "
            f"{measured['effective_cells']:.1f} cells; mean distance {measured['distance_px']:.0f} px"
        )
        shares = [
            f"{measured[name]:.0%} in its own {what}"
            for name, what in (("window_share", "window"), ("tile_share", "tile"))
            if measured[name] is not None
        ]
        lines += [", ".join(shares)] if shares else []
    if "band_weights" in maps.numbers:
        omega: Any = maps.numbers["band_weights"]
        shares = [f"{name} {value:.2f}" for name, value in zip(BANDS, omega, strict=False)]
        lines.append(f"bands: {', '.join(shares)}")
    return "\n".join(lines)


def shares_of(query: QueryMaps, site: str, head: str) -> dict[str, dict[str, float]]:
    """Return the shares of one head for bars by their title, by name; none where it has no places."""
    maps = query.maps[site]
    measured = query.measures[site][maps.index(head)]
    found: dict[str, dict[str, float]] = {}
    if measured.get("rings"):
        found["Weights by distance"] = dict(
            zip(_distances(measured["rings"]), measured["rings"].values(), strict=True)
        )
    if "band_weights" in maps.numbers:
        omega = maps.numbers["band_weights"].tolist()
        found["Share ω of each band"] = dict(zip(BANDS, omega, strict=False))
    if maps.site.kind == "routing":
        shares = maps.weights[:, 0].astype(float).tolist()
        found["Share of each expert"] = dict(zip(maps.site.heads, shares, strict=True))
    return found


def _distances(rings: Iterable[str]) -> list[str]:
    """Return names like "8–32 px" of rings that are called by their outer radius."""
    names, inner = [], "0"
    for ring in rings:
        word, radius, _ = ring.split("_")
        names.append(f"> {radius} px" if word == "beyond" else f"{inner}–{radius} px")
        inner = radius
    return names


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
