"""Several maps in one figure: the same scale for all, one colour bar, each over its grey picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, option
from napari_restore.explain.attribution.attribution import Attribution
from napari_restore.explain.attribution.figure import (
    caption,
    draw_inset,
    draw_over,
    frame,
    outline,
    outline_of,
    shown_around,
    values_in,
)
from napari_restore.explain.attribution.figure_file import FigureStyle, StyleOptions, drawn_figure
from napari_restore.explain.kinds import Kind

MARGIN = 64
"""Pixels around a box that a figure of several maps shows at least."""
BEYOND = 0.005
"""Share of the values of a map that may lie beyond the scale: single pixels would leave no colours to others."""
BAR = 0.3
"""Inches of the colour bar, with its numbers and its label."""


@dataclass(frozen=True)
class MapPiece:
    """What is drawn of one map: its box in the middle, and as much around it."""

    row: str
    column: str
    around: Region
    """Pixels that are shown, which may reach beyond the image."""
    picture: npt.NDArray[np.float32]
    """(h, w, C) in [0, 1], of what lies within the image."""
    values: npt.NDArray[np.float64]
    """(h, w) of the same pixels."""
    inside: Region
    """These pixels."""
    outline: Sequence[Sequence[float]]
    """Corners (y, x) of the target."""
    whole: npt.NDArray[np.uint8] | None
    """The whole image, smaller; None where reading it would take long."""
    size: tuple[int, int]
    """(height, width) of the whole."""
    kind: Kind
    caption: str

    @classmethod
    def of(cls, attribution: Attribution, row: str, column: str) -> Self:
        """Return that of an attribution, which may be freed then; `row` and `column` are its place."""
        margin = max(MARGIN, *attribution.box.shape)
        around, inside = shown_around(attribution, (margin, margin))
        return cls(
            row,
            column,
            around,
            np.clip(attribution.picture(inside), 0, 1),
            values_in(attribution, inside),
            inside,
            outline_of(attribution),
            attribution.whole,
            attribution.size,
            attribution.kind,
            caption(attribution.record),
        )


def draw_maps(
    pieces: Sequence[MapPiece],
    path: str | Path,
    *,
    overwrite: bool = False,
    **style: Unpack[StyleOptions],
) -> str:
    """Draw maps, a row for each box and a column for each model, on one scale; return the caption.

    The first column is the picture. Raises `BadOutput`, and `BadParameter` for maps of different kinds.
    """
    chosen = FigureStyle(**style)
    kinds = {piece.kind.value: piece.kind for piece in pieces}
    if len(kinds) != 1:
        raise BadParameter(
            f"Maps of {len(kinds)} kinds have no scale in common: {', '.join(kinds)}.",
            f"Name one method for all: {option('method', 'ig')}.",
        )
    (kind,) = kinds.values()
    rows, columns = (
        [*dict.fromkeys(names)] for names in zip(*((p.row, p.column) for p in pieces), strict=True)
    )
    if chosen.limits is None:
        most = _most(pieces)
        chosen = replace(chosen, limits=(-most if kind.is_signed else 0.0, most))
    text = _caption(pieces, chosen)
    side = chosen.width_mm / 25.4 / (1 + len(columns))
    height = len(rows) * side + BAR + 2 * chosen.points / 72
    with drawn_figure(chosen, [height], text, Path(path), overwrite=overwrite) as (_, (part,)):
        _draw(part, pieces, kind, chosen, (rows, columns))
    return text


def _draw(
    part: Any,
    pieces: Sequence[MapPiece],
    kind: Kind,
    style: FigureStyle,
    names: tuple[list[str], list[str]],
) -> None:
    rows, columns = names
    norm = style.norm(1.0, is_signed=kind.is_signed)
    bare: Any = {"xticks": [], "yticks": []}
    grid = part.subplots(len(rows), 1 + len(columns), squeeze=False, subplot_kw=bare)
    drawn = None
    for piece in pieces:
        first, axis = grid[rows.index(piece.row)][[0, 1 + columns.index(piece.column)]]
        drawn = draw_over(axis, piece.picture, piece.values, piece.inside, norm, kind)
        if not first.images:
            first.set_ylabel(piece.row)
            draw_inset(first, piece.picture, piece.inside, piece.whole, piece.size, piece.outline)
        for each in (axis, *([] if first.patches else [first])):
            frame(each, piece.around)
            outline(each, piece.outline)
    for axis, title in zip(grid[0], ["image", *columns], strict=True):
        axis.set_title(title, pad=2, loc="center")
    for axis in grid.ravel():
        # A row that failed.
        axis.axison = bool(axis.images)
    label = f"{kind.title}: {kind.value}"
    part.colorbar(
        drawn,
        ax=list(grid.ravel()),
        location="bottom",
        label=label,
        aspect=40,
        pad=0.02,
        extend=style.extend,
    )


def _most(pieces: Sequence[MapPiece]) -> float:
    """Return the size that but `BEYOND` of the values of each map have, other than 0: of the largest map."""
    sizes = [
        np.abs(piece.values[np.isfinite(piece.values) & (piece.values != 0)]) for piece in pieces
    ]
    return max((float(np.quantile(each, 1 - BEYOND)) for each in sizes if each.size), default=1.0)


def _caption(pieces: Sequence[MapPiece], style: FigureStyle) -> str:
    """Return the settings of all maps: what is each one's, then what they share, and the scale."""
    low, high = style.limits or (0, 0)
    values = np.concatenate([piece.values.ravel() for piece in pieces])
    beyond = np.mean((values < low) | (values > high))
    lines = [piece.caption.splitlines() for piece in pieces]
    shared = [line for line in lines[0] if all(line in other for other in lines)]
    own = []
    for piece, each in zip(pieces, lines, strict=True):
        own.append(f"{piece.row}, {piece.column}:")
        own += [line for line in each if line not in shared]
    scale = f"colours    {low:.3g} … {high:.3g} in all maps; {beyond:.2%} of the pixels lie beyond"
    return "\n".join([*own, *shared[:-1], scale, *shared[-1:]])
