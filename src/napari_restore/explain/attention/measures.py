"""Numbers of one head's weights: how spread they are, how far they reach; means over sampled queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from napari_restore.explain.attention.head_maps import HeadMaps
from napari_restore.explain.tables.table import mean_of

RINGS = (8, 32, 128, 512)
"""Outer radii in pixels of the rings of distance; beyond the last is another."""
ONE_CELL = ("routing", "gate")
"""Kinds whose weights all belong to the query's own cell, one for each head."""
WITHOUT_ENTROPY = ("channel", *ONE_CELL)
"""Kinds whose weights are no shares of positions: they have no entropy and no distance."""

IMPORTANCE = "importance"
NUMBERS = (
    "sum",
    "entropy",
    "effective_cells",
    "distance_px",
    "equal_distance_px",
    "window_share",
    "tile_share",
)
"""Numbers that every head has, None where one has no meaning for its kind."""
AVERAGED = tuple(name for name in NUMBERS if name != "sum")
"""Numbers of a head, see `measures`, whose means are given."""
SUMMARY_COLUMNS = (
    *("layer", "kind", "head", "weights"),
    *(f"{name}{part}" for name in AVERAGED for part in ("_n", "")),
)
Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""Numbers of every head by the name of the site."""


def measures(maps: HeadMaps, tile: int | None = None) -> list[dict[str, Any]]:
    """Return the numbers of every head, in the order of the heads.

    ``sum``: of the weights; of experts and gates their share, or factor. ``entropy``: H / log K, 1 for
    equal weights of the K candidates, 0 for a single one. ``effective_cells``: e^H. ``distance_px``: mean
    distance from the middle of the query, in pixels of the image; ``equal_distance_px``: that of equal
    weights of the same candidates. ``window_share``, ``tile_share``: share of the weights in the query's
    own window, and in its own tile of `tile` pixels. ``rings``: shares by distance. None where a number
    has no meaning.
    Of heads between channels ``entropy`` is that of the matrix's rows, ``diagonal`` its mean diagonal,
    ``contribution`` the length of what the head adds to the query's cell.
    """
    return [_of_head(maps, number, tile) for number in range(len(maps.weights))]


def _of_head(maps: HeadMaps, number: int, tile: int | None) -> dict[str, Any]:
    named: dict[str, Any] = {"head": maps.site.heads[number]}
    there = maps.cells[number, :, 0] >= 0
    weights = maps.weights[number][there].astype(np.float64)
    total = float(weights.sum())
    if maps.site.kind in WITHOUT_ENTROPY or total <= 0:
        found = named | _of_matrix(maps, number)
        return found | {"sum": total} if maps.site.kind in ONE_CELL else found
    shares = weights / total
    entropy = float(-(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum())
    stride, query = maps.stride, maps.query
    cells = maps.cells[number][there]
    middle = np.array([query.y0 + query.y1, query.x0 + query.x1]) / 2
    distances = np.hypot(*(stride * (cells + 0.5) - middle).T)
    return named | {
        "sum": total,
        "entropy": entropy / np.log(len(shares)) if len(shares) > 1 else 0.0,
        "effective_cells": float(np.exp(entropy)),
        "distance_px": float((shares * distances).sum()),
        "equal_distance_px": float(distances.mean()),
        "window_share": _own(maps, shares, cells, maps.site.window, maps.site.shift),
        "tile_share": _own(maps, shares, cells, None if tile is None else tile // stride, 0),
        "rings": _rings(shares, distances),
    }


def _of_matrix(maps: HeadMaps, number: int) -> dict[str, Any]:
    """Return the numbers of a head that attends to channels; None where it has none."""
    found: dict[str, Any] = dict.fromkeys(NUMBERS)
    for name in ("entropy", "diagonal", "contribution"):
        value = maps.numbers.get(name)
        if value is not None and value.ndim == 1 and len(value) == len(maps.weights):
            found[name] = float(value[number])
    return found


def importances(maps: HeadMaps) -> list[dict[str, Any]]:
    """Return the importance of every head of the layers on the way of a rollout with gradients.

    The sum of weights times gradient: by how much the result would be less without the head, to first order.
    """
    return [
        {"head": f"{layer} {head}", IMPORTANCE: float(value)}
        for name, values in maps.numbers.items()
        if (layer := name.removeprefix(f"{IMPORTANCE}.")) != name
        for head, value in enumerate(values, start=1)
    ]


def _own(
    maps: HeadMaps,
    shares: np.ndarray[Any, Any],
    cells: np.ndarray[Any, Any],
    side: int | None,
    shift: int,
) -> float | None:
    """Return the share in the query's own square of `side` cells; None where there are none."""
    if not side:
        return None
    own = (np.array([maps.query.y0, maps.query.x0]) // maps.stride - shift) // side
    return float(shares[((cells - shift) // side == own).all(axis=1)].sum())


def _rings(shares: np.ndarray[Any, Any], distances: np.ndarray[Any, Any]) -> dict[str, float]:
    edges = (-1.0, *RINGS, np.inf)
    names = (*(f"within_{radius}_px" for radius in RINGS), f"beyond_{RINGS[-1]}_px")
    return {
        name: float(shares[(distances > low) & (distances <= high)].sum())
        for name, low, high in zip(names, edges, edges[1:], strict=False)
    }


def summary_of(
    queries: Sequence[Measured], kinds: Mapping[str, str], weights: str | None
) -> list[dict[str, Any]]:
    """Return the means of `AVERAGED` over queries, of each head.

    Each has n and mean, see `mean_of`: n is less than the number of queries where some have
    no such number, and 0 where it has no meaning for the head. `kinds` are those of the sites by name.
    """
    heads = [(layer, number) for layer in kinds for number in range(len(queries[0][layer]))]
    return [
        {
            "layer": layer,
            "kind": kinds[layer],
            "head": queries[0][layer][number]["head"],
            "weights": weights,
            **{
                name: mean_of(each[layer][number].get(name) for each in queries)
                for name in AVERAGED
            },
        }
        for layer, number in heads
    ]


def summary_rows(summary: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table of a summary, by the names of `SUMMARY_COLUMNS`."""
    for head in summary:
        row = {name: head[name] for name in ("layer", "kind", "head", "weights")}
        for name in AVERAGED:
            mean = head[name]
            row |= {f"{name}_n": mean["n"], name: mean["mean"]}
        yield row
