"""Lists among the counts of a sweep: of every tile as many rows as it has something to tell."""

from __future__ import annotations

from napari_restore.models._sweeps import Sums

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
