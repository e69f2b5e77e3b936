"""Attention rollout: the weights of several blocks of windows, multiplied for one query.

Source: Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020), for one row: no matrix of
a block is formed. Heads are averaged. What convolutions, normalisation and the MLPs between the blocks do
to a cell is ignored. In place of the weights stands weights times gradient, where that is positive, by the
rule of Chefer, Gur and Wolf, Generic Attention-model Explainability (ICCV 2021), for self-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from napari_restore.errors import BadParameter
from napari_restore.explain.attention.head_maps import HeadMaps
from napari_restore.models import AttentionSite

HEAD = "rollout"
"""Name of the one head of a rollout."""
GRADIENT = "gradient"
"""In place of the weight of the residual path: weights times gradient."""
PLACED = ("window", "full")
"""Kinds of which there is a rollout with gradients."""
Cell = tuple[int, int]
Rows = Callable[[Sequence[Cell], AttentionSite], Iterable[HeadMaps]]
"""Returns the maps of each pixel (y, x) in a site, from the tile of the query."""


def stage_of(
    sites: Sequence[AttentionSite], name: str, residual_weight: float | str = 0.5
) -> tuple[AttentionSite, ...]:
    """Return the blocks of a site's stage from the first to the site: windows of the same cells, in a row.

    With `GRADIENT` also those of all cells. Raises `BadParameter` for a site of another kind.
    """
    kinds = PLACED if residual_weight == GRADIENT else PLACED[:1]
    number = [site.name for site in sites].index(name)
    asked = sites[number]

    def is_placed(site: AttentionSite) -> bool:
        # Where keys are other cells than queries, a row of one block is none of the next.
        return site.kind in kinds and site.key_stride is None

    if not is_placed(asked):
        known = ", ".join(site.name for site in sites if is_placed(site))
        reason = (
            "it mixes channels, not places: a rollout of it has no meaning"
            if asked.kind == "channel"
            else "its keys are cells of another size"
            if asked.kind in kinds
            else f"its kind is {asked.kind}, not {' or '.join(kinds)}"
        )
        raise BadParameter(
            f"{name} has no rollout: {reason}.",
            f"Choose among {known}." if known else "Look at its heads instead.",
        )

    before = takewhile(lambda x: is_placed(x) and x.stride == asked.stride, sites[:number][::-1])
    return (*reversed(tuple(before)), asked)


def rolled_out(
    rows: Rows, pixel: Cell, stage: Sequence[AttentionSite], residual_weight: float | None
) -> HeadMaps:
    """Return the rollout of a pixel from the last block of `stage` back to the first, as one head.

    r ← r · ((1 − w) A + w I) for each block, where A are the mean weights of its heads, and w,
    `residual_weight`, stands for the path around the attention; with None, r ← r · (A + I). Only rows of A
    are read that r needs.
    """
    kept, moved = (1.0, 1.0) if residual_weight is None else (residual_weight, 1 - residual_weight)
    (last,) = rows([pixel], stage[-1])
    y0, x0, _, _ = last.query
    asked = y0 // last.stride, x0 // last.stride
    weights: dict[Cell, float] = {asked: 1.0}
    for site in reversed(stage):
        weights = _through(rows, weights, site, kept, moved)
    cells = np.array(list(weights), np.int64)
    return replace(
        last,
        # The windows of several blocks together are none.
        site=replace(last.site, heads=(HEAD,), window=None, shift=0),
        weights=np.array([list(weights.values())], np.float32),
        cells=cells[None],
        numbers={},
        shows=HEAD,
    )


def _through(
    rows: Rows, weights: dict[Cell, float], site: AttentionSite, kept: float, moved: float
) -> dict[Cell, float]:
    """Return r · (`moved` · A + `kept` · I) of a row r, by cells."""
    found = {cell: weight * kept for cell, weight in weights.items()}
    asked = {cell: weight for cell, weight in weights.items() if weight > 0}
    if not moved:
        return found
    middles = [
        (y * site.stride + site.stride // 2, x * site.stride + site.stride // 2) for y, x in asked
    ]
    for weight, maps in zip(asked.values(), rows(middles, site), strict=True):
        for other, share in _mean_row(maps):
            found[other] = found.get(other, 0.0) + weight * moved * share
    return found


def _mean_row(maps: HeadMaps) -> Iterator[tuple[Cell, float]]:
    """Yield the cells that a query attends to, with the mean weight of all heads."""
    heads = len(maps.weights)
    for cells, weights in zip(maps.cells, maps.weights.astype(np.float64), strict=True):
        for (y, x), weight in zip(cells.tolist(), weights.tolist(), strict=True):
            if y >= 0:
                yield (y, x), weight / heads
