"""Summary of all scores: statistics, groups, comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_restore.metrics import Metric
from napari_restore.training.score._evaluate import Outcome
from napari_restore.training.score._methods import INPUT, Method
from napari_restore.training.score._statistics import compare, spread_of

TEST = (
    "two-sided sign-flip (randomisation) test of the mean paired difference, one for each scene "
    "(clear picture): exact up to 14 scenes, else 20000 random signs of a fixed seed"
)

Row = Mapping[str, Any]
Place = tuple[str, str]
"""Group and name of an image."""


def summary_of(
    outcome: Outcome, methods: Sequence[Method], metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Return the summary of an evaluation, JSON-able except for NaN and infinity.

    Figures of methods are over the images that all of them finished; see `_compared`. `n`: number
    of images, `scenes`: number of clear images.
    `images`: all scores. `mean`: of the first model. `methods`: spreads,
    also by group. `classical`: the label of the best classical method by the first
    metric. `comparisons`: each model with it and with the input.
    """
    tables = {method.label: _by_place(outcome.rows, method.label) for method in methods}
    places, complete = _compared(methods, tables, _places(outcome.rows))
    groups = sorted({group for group, _ in places if group})
    scene_from_dict = {(row["group"], row["image"]): row["scene"] for row in outcome.rows}
    scenes = [scene_from_dict[place] for place in places]

    def values(label: str, metric: str, group: str | None = None) -> list[float]:
        if label not in complete:
            return []
        return [
            tables[label][place]["values"][metric]
            for place in places
            if group is None or place[0] == group
        ]

    def means(label: str, group: str | None = None) -> dict[str, float]:
        return {name: spread_of(values(label, name, group)).mean for name in metrics}

    method_entries: list[dict[str, Any]] = []
    for method in methods:
        card = method.model.card
        entry: dict[str, Any] = {
            "label": method.label,
            "kind": method.kind,
            "model": {
                "id": card.id,
                "weights_sha256": card.weights_sha256,
                "parameters": dict(card.values),
            },
            "metrics": {name: spread_of(values(method.label, name)).to_dict() for name in metrics},
            "groups": {group: means(method.label, group) for group in groups},
            "seconds": sum(float(row["seconds"]) for row in tables[method.label].values()),
        }
        if clear := _clear(tables[method.label]):
            entry["clear"] = clear
        method_entries.append(entry)
    first = next(iter(metrics))
    best = _best([m.label for m in methods if m.kind == "classical"], first, metrics[first], means)
    models = [method.label for method in methods if method.kind == "model"]
    comparisons = [
        {
            "method": label,
            "other": other,
            "metric": name,
            **compare(
                values(label, name),
                values(other, name),
                scenes,
                higher_is_better=metric.higher_is_better,
            ).to_dict(),
        }
        for label in models
        for other in (best, INPUT)
        if other in complete and label in complete
        for name, metric in metrics.items()
    ]
    return {
        "images": _images(outcome.rows),
        "mean": _mean(models[0] if models else best, best, metrics, means),
        "n": len(places),
        "scenes": len(set(scenes)),
        "metrics": {
            name: {
                "title": metric.title or name,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "decimals": metric.decimals,
            }
            for name, metric in metrics.items()
        },
        "groups": groups,
        "methods": method_entries,
        "classical": best,
        "comparisons": comparisons,
        "test": TEST,
        "failed": outcome.failures,
    }


def _compared(
    methods: Sequence[Method], tables: Mapping[str, Mapping[Place, Row]], places: Sequence[Place]
) -> tuple[list[Place], set[str]]:
    """Return the compared images, and the labels of the methods that finished all of them.

    A method that finished nothing does not exclude images, nor does a classical baseline: it has
    no figures if it lacks an image.
    """
    required = [m.label for m in methods if m.kind == "model" and tables[m.label]]
    required = required or [m.label for m in methods if tables[m.label]]
    common = [place for place in places if all(place in tables[label] for label in required)]
    complete = {
        label
        for label, table in tables.items()
        if table and all(place in table for place in common)
    }
    return common, complete


def _by_place(rows: Sequence[Row], label: str) -> dict[Place, Row]:
    return {(row["group"], row["image"]): row for row in rows if row["method"] == label}


def _places(rows: Sequence[Row]) -> list[Place]:
    return list(dict.fromkeys((row["group"], row["image"]) for row in rows))


def _images(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: dict[Place, dict[str, Any]] = {}
    for row in rows:
        image = found.setdefault(
            (row["group"], row["image"]),
            {
                "image": row["image"],
                "group": row["group"],
                "valid_share": row["valid_share"],
                "methods": {},
            },
        )
        image["methods"][row["method"]] = {
            **row["values"],
            **(row.get("clear_values") or {}),
            "seconds": row["seconds"],
        }
    return list(found.values())


def _clear(table: Mapping[Place, Row]) -> dict[str, float]:
    """Return means over the clear images, each counted once."""
    by_picture = {
        row["clear_key"]: row["clear_values"]
        for row in table.values()
        if row.get("clear_key") and row.get("clear_values")
    }
    names = ("clear_psnr", "clear_change", "clear_unchanged")
    return {
        name: spread_of([float(values[name]) for values in by_picture.values()]).mean
        for name in names
        if by_picture
    }


def _best(labels: Sequence[str], name: str, metric: Metric, means: Any) -> str | None:
    known = {label: means(label)[name] for label in labels}
    known = {label: value for label, value in known.items() if not math.isnan(value)}
    if not known:
        return None
    return (max if metric.higher_is_better else min)(known, key=lambda label: known[label])


def _mean(
    label: str | None, best: str | None, metrics: Mapping[str, Metric], means: Any
) -> dict[str, float | None]:
    """Return the main figures of the first model."""
    first_means = means(label) if label is not None else {}
    return {
        **{name: first_means.get(name) for name in metrics},
        "input_psnr": means(INPUT).get("psnr"),
        "classical_psnr": means(best).get("psnr") if best is not None else None,
    }
