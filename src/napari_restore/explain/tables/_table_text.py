"""Writes tables of attributions as plain text, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari_restore._format import columns, latex
from napari_restore.explain.tables._rows import COLUMNS, Row
from napari_restore.explain.tables._summary import MEASURES, Measure


def text_table(summary: Mapping[str, Any]) -> str:
    """Return means and differences as a text table, with notes on their boxes."""
    head = ("", *(measure.title for measure in MEASURES.values()))
    rows = [
        (summary_row["model"], *_cells(summary_row["means"], _mean_text))
        for summary_row in summary["models"]
    ]
    differences = [
        (f"{summary_row['model']} - {summary_row['to']}", *_cells(summary_row["means"], _mean_text))
        for summary_row in summary["differences"]
    ]
    lines = [columns([head, *rows, *differences]), ""]
    for summary_row in summary["models"]:
        if not summary_row["boxes"]:
            lines.append(f"{summary_row['model']}: not run")
            continue
        counted = f"{summary_row['model']}: {summary_row['boxes'] - summary_row['failed']} of {summary_row['boxes']} boxes"
        if summary_row["empty"]:
            counted += f", in {summary_row['empty']} nothing has a share"
        if summary_row["not_reached"]:
            counted += f", in {summary_row['not_reached']} the gap was not reached"
        lines.append(f"{counted}, method {', '.join(summary_row['methods']) or 'none'}")
    lines.append(f"means with {_interval(summary)}")
    return "\n".join(lines)


def latex_table(summary: Mapping[str, Any]) -> str:
    """Return a booktabs table of means and differences, intervals in brackets."""
    titles = " & ".join(latex(measure.title) for measure in MEASURES.values())
    lines = [
        f"% Means with {_interval(summary)}. Needs \\usepackage{{booktabs}}.",
        rf"\begin{{tabular}}{{l{'r' * len(MEASURES)}}}",
        r"\toprule",
        rf"Model & {titles} \\",
        r"\midrule",
    ]
    for summary_row in summary["models"]:
        cells = " & ".join(_cells(summary_row["means"], _mean_latex))
        lines.append(rf"{latex(summary_row['model'])} & {cells} \\")
    if summary["differences"]:
        lines.append(r"\midrule")
    for summary_row in summary["differences"]:
        cells = " & ".join(_cells(summary_row["means"], _mean_latex))
        lines.append(rf"{latex(summary_row['model'])} $-$ {latex(summary_row['to'])} & {cells} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def csv_table(rows: Sequence[Row]) -> str:
    """Return the rows as CSV (RFC 4180); unknown values are empty, polygons JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_csv_value(row[column]) for column in COLUMNS] for row in rows)
    return out.getvalue()


def _interval(summary: Mapping[str, Any]) -> str:
    return (
        f"{100 * summary['level']:g} % bootstrap intervals over boxes "
        f"({summary['resamples']} resamples, seed {summary['seed']})"
    )


def _cells(
    means: Mapping[str, Any], text_of: Callable[[Mapping[str, Any], Measure], str]
) -> list[str]:
    return [text_of(means[name], measure) for name, measure in MEASURES.items()]


def _mean_text(interval: Mapping[str, Any], measure: Measure) -> str:
    """Format a mean with its interval."""
    if interval["mean"] is None:
        return "–"
    _, scale, decimals = measure
    mean, low, high = (
        # Rounded first, and + 0.0, to avoid -0.0.
        None if value is None else f"{round(value * scale, decimals) + 0.0:.{decimals}f}"
        for value in (interval["mean"], interval["low"], interval["high"])
    )
    return f"{mean}" if low is None else f"{mean} [{low}, {high}]"


def _mean_latex(interval: Mapping[str, Any], measure: Measure) -> str:
    """Format a mean with its interval for LaTeX."""
    text = _mean_text(interval, measure)
    return "--" if interval["mean"] is None else text.replace("-", "$-$")


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.8g}"
    return json.dumps(value) if isinstance(value, list) else value
