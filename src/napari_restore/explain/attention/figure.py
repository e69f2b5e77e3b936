"""A figure of one query's attention: a row of maps for each layer, and all settings below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from napari_restore.explain.attention.attention import Attention
from napari_restore.explain.attention.head_maps import HeadMap, HeadMaps
from napari_restore.explain.attention.measures import ONE_CELL, WITHOUT_ENTROPY
from napari_restore.explain.attention.redundancy import Matrix, mean_of_pairs
from napari_restore.explain.attribution.figure import (
    MAGNITUDE,
    SIGNED,
    corners_of,
    draw_picture,
    extent_of,
    frame,
    outline,
)
from napari_restore.explain.attribution.figure_file import (
    FigureStyle,
    StyleOptions,
    drawn_figure,
    input_lines,
)
from napari_restore.explain.attribution.measures import largest
from napari_restore.explain.kinds import KINDS, kinds_in

COLUMNS = 5
"""Panels side by side: the picture, then the heads."""
ACROSS = 9
"""The most, where several layers have more heads: each layer is a row then."""
NARROW_MM = 30
"""Width of a panel below which the numbers of a head do not fit in one line."""
NEVER_ASKED = "0.8"
SPARSE = 96
"""Cells along a side above which single ones are drawn as points."""
LONGEST = 512
"""Pixels of the picture along its longer side."""


def draw_attention(
    attention: Attention,
    path: str | Path,
    *,
    layers: Sequence[str] | None = None,
    query: int = 0,
    overwrite: bool = False,
    **style: Unpack[StyleOptions],
) -> Path:
    """Draw the heads of some layers (None: all) for one query; .png, .pdf or .svg.

    Raises `BadOutput`, `BadParameter`.
    """
    target, drawn = Path(path), FigureStyle(**style)
    chosen = [attention.maps(name, query) for name in layers or attention.layers]
    names = {each.site.name: each.site.heads for each in chosen}
    alike = {name: each for name, each in attention.redundancy.items() if name in names}
    most = max(len(heads) for heads in names.values())
    across = COLUMNS if len(chosen) == 1 else min(ACROSS, max(COLUMNS, 1 + most))
    lines = [_lines(each, across) * COLUMNS / across for each in chosen]
    lines += [lines_of(alike)] * bool(alike)
    panel = drawn.width_mm / 25.4 / COLUMNS
    around = (3.5 if _is_narrow(drawn, across) else 2.5) * drawn.points / 72
    heights = [panel * 1.18 * count + around for count in lines]
    text = caption(attention, chosen, query)
    with drawn_figure(drawn, heights, text, target, overwrite=overwrite) as (_, parts):
        for part, maps in zip(parts, chosen, strict=False):
            _layer(part, attention, maps, query, drawn, across)
        if alike:
            draw_matrices(parts[-1], alike, names)
    return target


def caption(attention: Attention, chosen: Sequence[HeadMaps], query: int) -> str:
    """Return all settings that repeat the maps, one per line."""
    record = attention.record
    asked = attention.queries[query].query
    names = [maps.site.name for maps in chosen]
    layers = [each for each in record["attention"]["layers"] if each["name"] in names]
    lines = [*input_lines(record), f"query      {asked.label}"]
    if any(maps.site.kind not in ONE_CELL for maps in chosen):
        far = any(maps.site.kind not in WITHOUT_ENTROPY for maps in chosen)
        then = "; then the mean distance" if far else ""
        lines.append(f"H          entropy of the weights, 1 where all are equal{then}")
    for kind, of in kinds_in({"layers": layers}).items():
        lines += [f"layers     {', '.join(of)}", f"shows      {kind.about}"]
    if (rolled := record["attention"].get("rollout")) is not None:
        blocks = [" > ".join(of) for name, of in rolled["blocks"].items() if name in names]
        lines.append(f"blocks     {', '.join(blocks)}; residual weight {rolled['residual_weight']}")
    return "\n".join([*lines, f"napari-restore {record['version']}"])


def _digits(entropies: Sequence[float | None]) -> int:
    """Return the digits that distinguish entropies, of which many are nearly 1: 2 to 6."""
    known = {value for value in entropies if value is not None}
    apart = (n for n in range(2, 6) if len({round(value, n) for value in known}) == len(known))
    return next(apart, 6)


def _is_narrow(style: FigureStyle, across: int) -> bool:
    """Return whether the numbers of a head need two lines."""
    return style.width_mm / across < NARROW_MM


def _lines(maps: HeadMaps, across: int) -> int:
    return 1 if maps.site.kind in ONE_CELL else -(-(1 + len(maps.site.heads)) // across)


def _layer(
    part: Any, attention: Attention, maps: HeadMaps, query: int, style: FigureStyle, across: int
) -> None:
    """Draw the picture and the heads of one layer."""
    part.suptitle(
        f"{maps.site.title} ({maps.site.kind}, {maps.stride} px a cell)", ha="left", x=0.02
    )
    if maps.site.kind in ONE_CELL:
        _bars(part.subplots(1, 1), maps)
        return
    bare: Any = {"xticks": [], "yticks": []}
    axes = list(part.subplots(_lines(maps, across), across, squeeze=False, subplot_kw=bare).ravel())
    for axis in axes[1 + len(maps.site.heads) :]:
        axis.set_axis_off()
    heads = [maps.map(head) for head in maps.site.heads]
    shown = heads[0].region.scale(Fraction(maps.stride))
    draw_picture(axes[0], *attention.picture(shown, LONGEST))
    axes[0].set_xlabel(f"{shown.width} × {shown.height} px")
    # Its own cell keeps so much of a rollout that it would leave no colours for the others.
    is_rollout = maps.kind in (KINDS["rollout"], KINDS["relevance"])
    own = maps.own.within(maps.region)
    values = np.stack([each.values for each in heads])
    if is_rollout:
        values[:, *own] = np.nan
    norm = style.norm(largest(values), is_signed=maps.kind.is_signed)
    drawn = None
    measured = attention.queries[query].measures[maps.site.name]
    between = "\n" if _is_narrow(style, across) else ", "
    digits = _digits([numbers.get("entropy") for numbers in measured])
    for number, (axis, head, numbers) in enumerate(zip(axes[1:], heads, measured, strict=False)):
        drawn = _head(axis, head, norm, signed=maps.kind.is_signed)
        is_share = maps.kind is KINDS["rollout"]
        kept = f", own cell {np.nansum(head.values[own]):.0%}" if is_share else ""
        axis.set_title(maps.kind.title if is_rollout else _title(maps, number), pad=2)
        axis.set_aspect("equal")
        if numbers.get("entropy") is not None:
            distance = numbers["distance_px"]
            far = "" if distance is None else f"{between}{distance:.0f} px"
            axis.set_xlabel(f"H {numbers['entropy']:.{digits}f}{far}{kept}")
    for axis in axes[: 1 + len(heads)]:
        frame(axis, shown)
        outline(axis, corners_of(maps.query), "red")
    if drawn is not None:
        used, extend = axes[: 1 + len(heads)], "max" if is_rollout else "neither"
        part.colorbar(drawn, ax=used, label=maps.kind.value, extend=extend, fraction=0.02, pad=0.01)


def _bars(axis: Any, maps: HeadMaps) -> None:
    """Draw the shares of a cell's experts, or its gates; of a box the means over its cells."""
    axis.bar(maps.site.heads, maps.weights.sum(axis=1), color="0.4")
    axis.set_ylabel(maps.kind.value)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _title(maps: HeadMaps, number: int) -> str:
    """Return the title of a head, with the share of its frequency band where it has one."""
    name = maps.site.heads[number]
    omega = maps.numbers.get("band_weights")
    if omega is None:
        return f"head {name}"
    return f"{name} · ω {omega[number * len(omega) // len(maps.site.heads)]:.2f}"


def _head(axis: Any, head: HeadMap, norm: Any, *, signed: bool) -> Any:
    """Draw one map; return what its colour bar describes."""
    axis.set_facecolor(NEVER_ASKED)
    extent = extent_of(head.region.scale(Fraction(head.stride)))
    colours = SIGNED if signed else MAGNITUDE
    values = np.ma.masked_invalid(head.values)
    if max(head.values.shape) <= SPARSE or np.isfinite(head.values).mean() > 0.5:
        return axis.imshow(values, cmap=colours, norm=norm, extent=extent, interpolation="nearest")
    rows, columns = np.nonzero(np.isfinite(head.values))
    order = np.argsort(head.values[rows, columns])
    rows, columns = rows[order], columns[order]
    return axis.scatter(
        (columns + 0.5 + head.region.x0) * head.stride,
        (rows + 0.5 + head.region.y0) * head.stride,
        c=head.values[rows, columns],
        s=3,
        marker="s",
        linewidths=0,
        cmap=colours,
        norm=norm,
    )


LABELLED = 8
"""Heads up to which all have their name at the edge."""


def lines_of(matrices: Mapping[str, Matrix]) -> int:
    """Return the lines of panels that so many layers take."""
    return -(-len(matrices) // COLUMNS)


def draw_matrices(
    part: Any, matrices: Mapping[str, Matrix], heads: Mapping[str, tuple[str, ...]]
) -> None:
    """Draw a matrix for each layer into a part of a figure; `heads` are their names."""
    kind = KINDS["redundancy"]
    part.suptitle(f"{kind.title}: {kind.says}", ha="left", x=0.02)
    axes = list(part.subplots(lines_of(matrices), COLUMNS, squeeze=False).ravel())
    drawn = None
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=False):
        axis.set_facecolor("0.8")
        drawn = axis.imshow(matrix, cmap=MAGNITUDE, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, pad=2)
        axis.set_xlabel(f"mean {mean_of_pairs(matrix):.2f}")
        ticks = range(len(matrix)) if len(matrix) <= LABELLED else []
        axis.set_xticks([])
        axis.set_yticks(ticks, [heads[name][tick] for tick in ticks])
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    part.colorbar(drawn, ax=axes, label=kind.value, fraction=0.02, pad=0.01)
