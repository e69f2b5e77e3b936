"""Lists among the counts of a sweep: of every tile as many rows as it has something to tell."""

from __future__ import annotations

import torch

from napari_restore.models._steps import Sums

NUMBER = "number"
"""Count of the rows of a list that are used; the others are zeros."""
SPARE = 1.5
"""Room of a growing list, as a multiple of its length: it is copied a few times only."""


def joined(name: str, earlier: Sums, following: Sums) -> Sums:
    """Return the rows (1, R, …) of two counts as one list, in place where the first has room.

    Both hold the list under `name`, and the length of its used part under `NUMBER`.
    """
    rows, used, new = earlier[name], int(earlier[NUMBER]), int(following[NUMBER])
    if rows.shape[1] < used + new:
        grown = rows.new_empty(1, int(SPARE * (used + new)), *rows.shape[2:])
        grown[:, :used] = rows[:, :used]
        rows = grown
    rows[:, used : used + new] = following[name][:, :new]
    return {name: rows, NUMBER: earlier[NUMBER] + new}


def rows_of_tile(name: str, by_all: Sums, joined_rows: Sums, own: Sums) -> Sums:
    """Return ∂D/∂ of one tile's list, given that of the joined lists, these, and the tile's.

    The first two numbers of a row tell one from all others.
    """
    all_places, places = (rows[name][0, : int(rows[NUMBER]), :2] for rows in (joined_rows, own))
    width = 1 + int(all_places[:, 1].max())
    keys, wanted = (each[:, 0] * width + each[:, 1] for each in (all_places, places))
    order = keys.argsort()
    found = order[torch.searchsorted(keys[order], wanted)]
    by_own = torch.zeros_like(own[name])
    by_own[0, : len(found)] = by_all[name][0, found]
    return {name: by_own}
