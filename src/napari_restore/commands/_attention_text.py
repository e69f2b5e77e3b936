"""The summary of `attend` for the terminal: numbers of heads, of one query or of a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_restore._format import format_seconds
from napari_restore.errors import escape_controls

MEANING = "Where the network looked, not why."
MISSING = "–"
RANK = "attribution_rank"


def attention_lines(output: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the summary of a record: the numbers of every head of the first query, or of the sample."""
    seconds = format_seconds(record["measured"]["seconds"], tenths=True)
    attention = record["attention"]
    lines = [f"wrote {output} in {seconds}"]
    lines += _of_sample(attention) if "summary" in attention else _of_query(attention)
    lines += _of_redundancy(attention.get("redundancy", {}))
    return [escape_controls(line) for line in lines]


def _of_query(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield the numbers of the first query, those of random weights below each layer's."""
    first = attention["queries"][0]
    ablated = any("without_db" in head for heads in first["measures"].values() for head in heads)
    ranked = any(RANK in head for heads in first["measures"].values() for head in heads)
    twin = first.get("random_twin")
    titles = f"{'layer':22} {'head':10} {'entropy':>8} {'cells':>8} {'distance':>9}"
    yield f"{titles}{' attribution' * ranked}{'  without' * ablated}"
    for name, heads in first["measures"].items():
        for number in heads:
            yield f"{name:22} {number['head']:10} {_numbers(number)}"
        for number in () if twin is None else twin[name]:
            yield f"{'  random weights':22} {number['head']:10} {_numbers(number)}"
    if ranked:
        yield "attribution: Spearman's rank correlation of weights and attribution, over the candidates."
    if ablated:
        yield "without: PSNR of the result without the head to the result, in dB; low: it matters."
    yield f"entropy 1: equal weights; cells: how many that would be; distance: mean, in pixels. {MEANING}"


def _of_redundancy(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield for each layer how alike its heads are."""
    if not found:
        return
    yield f"{'layer':22} {'compared cells':>14} {'likeness of heads':>18}"
    for name, one in found.items():
        yield f"{name:22} {one['cells']:14} {_number(one['mean']['cka'], '18.3f')}"
    yield "likeness: mean linear CKA of what two heads put out; 1: the same but for a rotation."


def _numbers(head: Mapping[str, Any]) -> str:
    columns = [("entropy", "8.3f"), ("effective_cells", "8.1f"), ("distance_px", "9.1f")]
    columns += [(RANK, "11.3f")] if RANK in head else []
    columns += [("without_db", "8.1f")] if "without_db" in head else []
    return " ".join(_number(head.get(name), form) for name, form in columns)


def _number(value: float | None, form: str) -> str:
    """Return a number in a format such as ``8.3f``, or a dash as wide."""
    return format(MISSING, f">{form.split('.')[0]}") if value is None else format(value, form)


def _of_sample(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield the means of every head, those of random weights below each head's."""
    count = len(attention["queries"])
    twin = attention.get("random_twin")
    titles = f"{'layer':22} {'head':10} {'entropy':>21} {'cells':>8} {'distance':>24}"
    yield f"{titles} {'equal':>8} {'window':>6} {'tile':>6}"
    own = [head for head in attention["summary"] if twin is None or head["weights"] != twin]
    others = {
        (head["layer"], head["head"]): head
        for head in attention["summary"]
        if head["weights"] == twin
    }
    for head in own:
        yield f"{head['layer']:22} {head['head']:10} {_means(head)}"
        other = others.get((head["layer"], head["head"]))
        if other is not None:
            yield f"{'  random weights':22} {'':10} {_means(other)}"
    yield (
        f"Means over {count} queries, in brackets 95 % bootstrap intervals. entropy 1: equal weights; "
        "cells: how many that would be; distance: mean, in pixels; equal: the same of equal weights; "
        f"window, tile: shares of the weights in the query's own. {MEANING}"
    )


def _means(head: Mapping[str, Any]) -> str:
    columns = (
        _interval(head["entropy"], ".3f", 21),
        _number(head["effective_cells"]["mean"], "8.1f"),
        _interval(head["distance_px"], ".1f", 24),
        _number(head["equal_distance_px"]["mean"], "8.1f"),
        _number(head["window_share"]["mean"], "6.3f"),
        _number(head["tile_share"]["mean"], "6.3f"),
    )
    return " ".join(columns)


def _interval(mean: Mapping[str, Any], form: str, width: int) -> str:
    """Return a mean with its interval, or without where there is none."""
    if mean["mean"] is None:
        return MISSING.rjust(width)
    text = format(mean["mean"], form)
    if mean["low"] is not None:
        text += f" ({format(mean['low'], form)}–{format(mean['high'], form)})"
    return text.rjust(width)
