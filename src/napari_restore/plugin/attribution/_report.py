"""The report of an attribution, as the rows of a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore import api
from napari_restore.questions import CHECK, THROUGH

if TYPE_CHECKING:
    from napari_restore.explain import AttributionSummary

MIN_SHARE = 0.01
"""Smallest share of the unchanged input that has a row."""
Row = tuple[str, str]


def leaves_out_context(record: Mapping[str, Any]) -> bool:
    """Return whether the gradient through the context would add to the map."""
    attribution = record["attribution"]
    return attribution["path"] is not None and api.attribution_summary(attribution).omits_context


def report(record: Mapping[str, Any]) -> list[Row]:
    """Return how complete a map is, what it omits, how spread it is, and what it is of."""
    attribution, model = record["attribution"], record["model"]
    complete = attribution["completeness"]
    summary = api.attribution_summary(attribution)
    word = {True: "yes: ", False: "NO: ", None: ""}[summary.is_complete]
    rows = [("Complete", word + summary.completeness)]
    if complete["sum"] is not None:
        known = complete["difference"]
        change = "not finite" if known is None else f"{known:.4g}"
        change += f", shares add up to {complete['sum']:.4g}"
        rows.append(("Difference", change))
    if frames := attribution.get("frames"):
        shares = (f"{Path(each['path'] or 'array').name} {each['sum']:+.4f}" for each in frames)
        rows.append(("Shares of the frames", ", ".join(shares)))
    if complete["recomputed_difference"] is not None:
        free = f"{complete['recomputed_difference']:.4g}"
        rows.append(("Routing", f"{attribution['routing']}; recomputed, the difference is {free}"))
    if attribution["context"]["used"] != "none":
        rows.append(("Context", _context(attribution["context"], summary)))
    rows += [("Box", _target(attribution)), ("Method", _method(attribution))]
    index, near = attribution["diffusion_index"], attribution["window"]["diffusion_index"]
    if index is not None:
        spread = f"{index:.2f}"
        if near is not None and tuple(attribution["window"]["region"]) != tuple(
            attribution["region"]
        ):
            spread += f" (within 512 px of the box {near:.2f})"
        rows += [
            ("Diffusion index", spread),
            ("95 % lies in", f"{attribution['area_95']} pixels"),
            (f"Beyond {summary.far} px", f"{summary.far_share:.1%}"),
        ]
    if (attribution["identity_share"] or 0) >= MIN_SHARE:
        rows.append(("Input unchanged", f"{attribution['identity_share']:.0%} of the map"))
    checked = attribution.get("checks", {}).get(CHECK)
    if checked is not None and checked["insertion"]["area"] is None:
        rows.append(("Check", "undefined: image and baseline hardly differ in the box"))
    elif checked is not None:
        rows.append(("Check", f"from {checked['baseline']}"))
    weights = model["weights_sha256"]
    rows.append(("Model", f"{model['id']}{f', weights {weights[:12]}' if weights else ''}"))
    return rows


def as_html(rows: Sequence[Row]) -> str:
    """Return a table of two columns for a label, and below it what no map shows."""
    lines = (
        f"<tr><td><b>{escape(name)}</b>&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{''.join(lines)}</table><i>Where it looked, not why.</i>"


def _context(context: Mapping[str, Any], summary: AttributionSummary) -> str:
    share = summary.context_share
    part = "its share is not known" if share is None else f"{share:.0%} of the change"
    if context["used"] == THROUGH:
        return f"in the map: {part} came through it" if share is not None else "in the map"
    reason = context["reason"]
    if share is None:
        return f"constant ({reason}); {part}"
    if not summary.omits_context:
        return f"constant ({reason}); nothing came through it"
    return f"constant ({reason}): {part} came through it and is NOT in this map"


def _target(attribution: Mapping[str, Any]) -> str:
    y0, x0, y1, x1 = attribution["box"]
    scale = attribution["scale"]
    pixels = "px" if scale == 1 else f"px of the overview 1:{scale}"
    within = "a polygon in " if attribution["polygon"] else ""
    return f"{attribution['objective']} of {within}{x1 - x0} × {y1 - y0} {pixels} at x {x0}, y {y0}"


def _method(attribution: Mapping[str, Any]) -> str:
    way = "" if attribution["path"] is None else f": {attribution['path']} path"
    start = "" if attribution["baseline"] is None else f" from {attribution['baseline']}"
    return f"{attribution['method']}{way}{start}"
