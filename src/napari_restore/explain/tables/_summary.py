"""Summary of a table: means with intervals, and paired differences between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from napari_restore.explain.attribution._summary import FAR
from napari_restore.explain.tables._bootstrap import LEVEL, RESAMPLES, SEED, mean_of
from napari_restore.explain.tables._rows import Row


class Measure(NamedTuple):
    """A column with a mean in the summary, and its number format."""

    title: str
    scale: float
    """Factor for display."""
    decimals: int
    """Decimals for display."""


MEASURES = {
    "diffusion_index": Measure("diffusion index", 1, 1),
    "area_95": Measure("area (pixels)", 1, 0),
    f"beyond_{FAR}": Measure(f"beyond {FAR} px (%)", 100, 1),
    "relative_gap": Measure("gap (%)", 100, 2),
}
"""Measures by column."""


def summary_of(rows: Sequence[Row], models: Sequence[str]) -> dict[str, Any]:
    """Return means over boxes for every model, and paired differences to the first one.

    Maps of zeros count as ``empty`` and enter no mean but that of the gap. Each mean has n, mean, low
    and high, see `mean_of`, over the boxes with a known value; a difference, over those known for
    both models.
    """
    by_model: dict[str, dict[int, Row]] = {model: {} for model in models}
    for row in rows:
        by_model[row["model"]][row["number"]] = row
    first, *others = models
    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "seed": SEED,
        "models": [
            {
                "model": model,
                "boxes": len(of_model),
                "failed": sum(row["error"] is not None for row in of_model.values()),
                "empty": sum(
                    row["error"] is None and row["in_box"] is None for row in of_model.values()
                ),
                "not_reached": sum(row["reached"] is False for row in of_model.values()),
                "methods": sorted({row["method"] for row in of_model.values()} - {None}),
                "means": {
                    name: mean_of(
                        [row[name] for row in of_model.values() if row[name] is not None]
                    ).to_dict()
                    for name in MEASURES
                },
            }
            for model, of_model in by_model.items()
        ],
        "differences": [
            {
                "model": model,
                "to": first,
                "means": {
                    name: mean_of(_differences(by_model[first], by_model[model], name)).to_dict()
                    for name in MEASURES
                },
            }
            for model in others
        ],
    }


def _differences(first: Mapping[int, Row], other: Mapping[int, Row], name: str) -> list[float]:
    pairs = [(first[number][name], row[name]) for number, row in other.items() if number in first]
    return [float(b - a) for a, b in pairs if a is not None and b is not None]
