"""Numbers of every head over sampled queries: means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from napari_restore.explain.attention import _measures
from napari_restore.explain.tables._bootstrap import means_of

NUMBERS = tuple(name for name in _measures.NUMBERS if name != "sum")
"""Numbers of a head, see `measures`, whose means are given."""
SUMMARY_COLUMNS = (
    *("layer", "kind", "head", "weights"),
    *(f"{name}{part}" for name in NUMBERS for part in ("_n", "", "_low", "_high")),
)
Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""Numbers of every head by the name of the site."""


def summary_of(
    queries: Sequence[Measured], kinds: Mapping[str, str], weights: str | None
) -> list[dict[str, Any]]:
    """Return the means of `NUMBERS` over queries with their intervals, of each head.

    Each has n, mean, low and high, see `mean_of`: n is less than the number of queries where some have
    no such number, and 0 where it has no meaning for the head. `kinds` are those of the sites by name.
    """
    heads = [(layer, number) for layer in kinds for number in range(len(queries[0][layer]))]
    columns = [
        [each[layer][number].get(name) for each in queries]
        for layer, number in heads
        for name in NUMBERS
    ]
    means = iter(means_of(columns))
    return [
        {
            "layer": layer,
            "kind": kinds[layer],
            "head": queries[0][layer][number]["head"],
            "weights": weights,
            **{name: next(means).to_dict() for name in NUMBERS},
        }
        for layer, number in heads
    ]


def summary_rows(summary: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table of a summary, by the names of `SUMMARY_COLUMNS`."""
    for head in summary:
        row = {name: head[name] for name in ("layer", "kind", "head", "weights")}
        for name in NUMBERS:
            mean = head[name]
            row |= {f"{name}_n": mean["n"], name: mean["mean"]}
            row |= {f"{name}_{end}": mean[end] for end in ("low", "high")}
        yield row
