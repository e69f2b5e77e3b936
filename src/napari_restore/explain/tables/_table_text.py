"""Tables of attributions as text: for a terminal, for LaTeX, and one row per map as CSV."""

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
    """The means for people, and in sentences what they are of."""
    head = ("", *(measure.title for measure in MEASURES.values()))
    rows = [(told["model"], *_cells(told["means"], _shown)) for told in summary["models"]]
    apart = [
        (f"{told['model']} - {told['to']}", *_cells(told["means"], _shown))
        for told in summary["differences"]
    ]
    lines = [columns([head, *rows, *apart]), ""]
    for told in summary["models"]:
        if not told["boxes"]:
            lines.append(f"{told['model']}: not asked")
            continue
        counted = f"{told['model']}: {told['boxes'] - told['failed']} of {told['boxes']} boxes"
        if told["empty"]:
            counted += f", in {told['empty']} nothing has a share"
        if told["not_reached"]:
            counted += f", in {told['not_reached']} the gap was not reached"
        lines.append(f"{counted}, method {', '.join(told['methods']) or 'none'}")
    lines.append(f"means with {_interval(summary)}")
    return "\n".join(lines)


def latex_table(summary: Mapping[str, Any]) -> str:
    """A booktabs table of the means and differences, intervals in brackets."""
    titles = " & ".join(latex(measure.title) for measure in MEASURES.values())
    lines = [
        f"% Means with {_interval(summary)}. Needs \\usepackage{{booktabs}}.",
        rf"\begin{{tabular}}{{l{'r' * len(MEASURES)}}}",
        r"\toprule",
        rf"Model & {titles} \\",
        r"\midrule",
    ]
    for told in summary["models"]:
        cells = " & ".join(_cells(told["means"], _in_latex))
        lines.append(rf"{latex(told['model'])} & {cells} \\")
    if summary["differences"]:
        lines.append(r"\midrule")
    for told in summary["differences"]:
        cells = " & ".join(_cells(told["means"], _in_latex))
        lines.append(rf"{latex(told['model'])} $-$ {latex(told['to'])} & {cells} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def csv_table(rows: Sequence[Row]) -> str:
    """The rows (RFC 4180); empty where nothing is known, polygons as JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_exact(row[column]) for column in COLUMNS] for row in rows)
    return out.getvalue()


def _interval(summary: Mapping[str, Any]) -> str:
    return (
        f"{100 * summary['level']:g} % bootstrap intervals over boxes "
        f"({summary['resamples']} resamples, seed {summary['seed']})"
    )


def _cells(
    means: Mapping[str, Any], show: Callable[[Mapping[str, Any], Measure], str]
) -> list[str]:
    return [show(means[name], measure) for name, measure in MEASURES.items()]


def _shown(told: Mapping[str, Any], measure: Measure) -> str:
    if told["mean"] is None:
        return "–"
    _, scale, decimals = measure
    mean, low, high = (
        # Rounded before it is set, and + 0.0, lest there is a -0.0.
        None if value is None else f"{round(value * scale, decimals) + 0.0:.{decimals}f}"
        for value in (told["mean"], told["low"], told["high"])
    )
    return f"{mean}" if low is None else f"{mean} [{low}, {high}]"


def _in_latex(told: Mapping[str, Any], measure: Measure) -> str:
    text = _shown(told, measure)
    return "--" if told["mean"] is None else text.replace("-", "$-$")


def _exact(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.8g}"
    return json.dumps(value) if isinstance(value, list) else value
