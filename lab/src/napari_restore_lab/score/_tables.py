"""Writes scores as plain text, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from napari_restore.extension import columns

CLEAR = {
    "clear_psnr": "PSNR (dB)",
    "clear_change": "median change (of 255)",
    "clear_unchanged": "unchanged",
}


def text_table(evaluation: Mapping[str, Any]) -> str:
    """Return the means of `summary_of` as a text table."""
    metrics: Mapping[str, Any] = evaluation["metrics"]
    rows = [("", *(_heading(metric) for metric in metrics.values()))]
    for method in evaluation["methods"]:
        cells = []
        for name, metric in metrics.items():
            spread, digits = method["metrics"][name], metric["decimals"]
            mean, std = _number(spread["mean"], digits), _number(spread["std"], digits)
            cells.append(mean if std == "–" else f"{mean} ± {std}")
        rows.append((method["label"], *cells))
    parts = [columns(rows)]
    for group in evaluation["groups"]:
        inner = [(f"{group}:", *("" for _ in metrics))]
        for method in evaluation["methods"]:
            means = method["groups"][group]
            cells = [_number(means[name], metrics[name]["decimals"]) for name in metrics]
            inner.append((f"  {method['label']}", *cells))
        parts.append(columns(inner))
    if any("clear" in method for method in evaluation["methods"]):
        inner = [("clear pictures:", *CLEAR.values())]
        for method in evaluation["methods"]:
            if row_values := method.get("clear"):
                unchanged = row_values["clear_unchanged"]
                inner.append(
                    (
                        f"  {method['label']}",
                        _number(row_values["clear_psnr"], 2),
                        _number(row_values["clear_change"], 2),
                        "–" if math.isnan(unchanged) else f"{unchanged:.1%}",
                    )
                )
        parts.append(columns(inner))
    parts.append("\n".join(_sentences(evaluation)))
    return "\n\n".join(filter(None, parts))


def csv_table(evaluation: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    """Return CSV (RFC 4180) with a row for each image and method; NaN is empty.

    `kinds` is input, classical or model by label.
    """
    names = [*evaluation["metrics"]]
    rows = [
        (image, label, values)
        for image in evaluation["images"]
        for label, values in image["methods"].items()
    ]
    names += [name for name in CLEAR if any(name in values for *_, values in rows)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "group", "method", "kind", *names, "valid_share", "seconds"])
    for image, label, values in rows:
        writer.writerow(
            [
                image["image"],
                image["group"],
                label,
                kinds[label],
                *(_exact(values.get(name)) for name in names),
                image["valid_share"],
                values["seconds"],
            ]
        )
    return out.getvalue()


def _sentences(evaluation: Mapping[str, Any]) -> list[str]:
    lines = []
    for row_values in evaluation["comparisons"]:
        if row_values["other"] != evaluation["classical"] or not row_values["n"]:
            continue
        metric = evaluation["metrics"][row_values["metric"]]
        gain = f"{row_values['difference']:+.{metric['decimals']}f} {metric['unit']}".rstrip()
        lines.append(
            f"{row_values['method']} against {row_values['other']}, the best classical: "
            f"{metric['title']} {gain}, better on {row_values['better']} of {row_values['n']} "
            f"scene{'s' if row_values['n'] != 1 else ''}, "
            f"p = {row_values['p']:.2g}"
        )
    count = evaluation["n"]
    scenes = evaluation["scenes"]
    of = f" of {scenes} scene{'s' if scenes != 1 else ''}" if scenes != count else ""
    lines.append(f"means over {count} image{'s' if count != 1 else ''}{of}")
    shares = [image["valid_share"] for image in evaluation["images"] if image["valid_share"] < 1]
    if shares:
        lines.append(f"valid pixels of {len(shares)} of them: {min(shares):.1%} and more")
    return lines


def _heading(metric: Mapping[str, Any]) -> str:
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    return f"{metric['title']}{unit} {'↑' if metric['higher_is_better'] else '↓'}"


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _exact(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.8g}"
