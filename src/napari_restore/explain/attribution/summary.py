"""Figures and words on how far an attribution map is to be trusted; every door prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_restore.questions import STOP, THROUGH

FAR = 128
"""Distance in pixels from the box beyond which a share is reported."""
MAP_GOAL = 5
"""Goal of the map's error, in goals of the gap."""
LARGEST_SEGMENTS = 5
"""Segments whose shares are named."""
NEGLIGIBLE = 0.005
"""Share of the change that a map may omit without a hint."""


@dataclass(frozen=True)
class AttributionSummary:
    """Completeness, spread and omissions of a map, from the ``attribution`` of its record."""

    is_complete: bool | None
    """Whether the shares add up, and the map is known, as closely as requested; None where it is undefined."""
    completeness: str
    """The same in words: the gap, its limit, or why there is none, and the map's error."""
    spread: str
    """Diffusion index and area in words, and of which part of all magnitudes they are."""
    far: int
    """Distance in pixels, `FAR`."""
    far_share: float
    """Share of the map that lies `far` pixels from the box or farther."""
    context_share: float | None
    """Share of the change that came through the context: 0 if negligible, None if unknown."""
    omits_context: bool
    """Whether that share is known, not negligible and no part of the map."""
    context: str
    """How the context was treated and why, and what came through it; empty without a context."""
    checks: tuple[str, ...]
    """What each check found."""
    parts: str
    """The layer or the segments that have shares in place of pixels; empty where pixels have."""


def attribution_summary(attribution: Mapping[str, Any]) -> AttributionSummary:
    """Return the summary of the ``attribution`` of a record."""
    context, complete = attribution["context"], attribution["completeness"]
    share = context["share"]
    if share is not None and share < NEGLIGIBLE:
        share = 0.0
    return AttributionSummary(
        is_complete=complete["reached"] and complete.get("map_settled") is not False,
        completeness=_completeness_text(complete, len(attribution["nodes"])),
        spread=_spread_text(attribution),
        far=FAR,
        far_share=far_share(attribution["rings"]),
        context_share=share,
        omits_context=context["used"] == STOP and bool(share),
        context=_context_text(context),
        checks=tuple(_check_text(each) for each in attribution.get("checks", {}).values()),
        parts=_parts_text(attribution),
    )


def _parts_text(attribution: Mapping[str, Any]) -> str:
    layer, segments = attribution.get("layer"), attribution.get("segments")
    if layer is not None:
        return (
            f"layer {layer['name']} ({layer['kind']}), {layer['channels']} channels, "
            f"cells of {layer['stride']} x {layer['stride']} pixels"
        )
    if segments is None:
        return ""
    done = segments["evaluations"]
    computed = "" if done is None else f"; D computed {done} times"
    ordered = sorted(segments["rows"], key=lambda row: -abs(row["share"]))[:LARGEST_SEGMENTS]
    largest = ", ".join(f"{row['label']} {row['share']:+.4g}" for row in ordered)
    return (
        f"{segments['count']} segments, the share of each spread evenly: {segments['source']}{computed}; "
        f"the largest shares: {largest}"
    )


def _context_text(context: Mapping[str, Any]) -> str:
    if context["used"] == "none":
        return ""
    share, is_through = context["share"], context["used"] == THROUGH
    text = "gradient through the context" if is_through else "context constant"
    text = f"{text} ({context['reason']})"
    if share is None:
        return text if is_through else f"{text}; its share of the change is unknown"
    left_out = "" if is_through else " and is not in this map"
    return f"{text}: {share:.0%} of the change came through it{left_out}"


def _check_text(checked: Mapping[str, Any]) -> str:
    curves = {name: checked[name] for name in ("insertion", "deletion")}
    if any(curve["area"] is None for curve in curves.values()):
        return "undefined: image and baseline hardly differ in D"
    areas = [
        f"area {curve['area']:.3f} under {name} (by distance {curve['nearest_area']:.3f}, "
        f"at random {curve['random_area']:.3f})"
        for name, curve in curves.items()
    ]
    return f"{', '.join(areas)}, from {checked['baseline']}"


def _spread_text(attribution: Mapping[str, Any]) -> str:
    index, beside, (y0, x0, y1, x1) = (
        attribution[name] for name in ("diffusion_index", "overview_share", "region")
    )
    if index is None:
        return "no magnitudes in the map"
    pixels = f"{attribution['area_95']} of {(y1 - y0) * (x1 - x0)} pixels"
    found = f"diffusion index {index:.2f}, just below 95 % of the magnitudes in {pixels}"
    held = f"of the {1 - beside:.1%} of all magnitudes that the map holds, not the overview: "
    return held + found if beside else found


def far_share(rings: Mapping[str, float]) -> float:
    """Return the share of `rings`, named by inner and outer distance, from `FAR` pixels on."""
    return sum(
        share
        for name, share in rings.items()
        if name != "box" and int(name.partition("-")[0]) >= FAR
    )


def _completeness_text(complete: Mapping[str, Any], steps: int) -> str:
    gap = complete["relative_gap"]
    if complete["sum"] is None:
        return "not claimed by this method"
    if complete["difference"] is None:
        return "undefined: the target is not finite at an end of the path"
    if gap is None:
        return (
            "undefined: the target hardly differs along the path, so there is nothing to attribute; "
            "choose another box, or another baseline"
        )
    after = f" after {steps} steps" if steps else ""
    limit = "at most" if complete["reached"] else "more than the"
    text = f"gap {gap:.2%}{after}, {limit} {complete['goal']:.2%} requested"
    if not (error := map_error_text(complete)):
        return text
    more = (
        ""
        if complete["map_settled"]
        else f", more than the {MAP_GOAL * complete['goal']:.2%} requested"
    )
    return f"{text}; {error}{more}"


def map_error_text(complete: Mapping[str, Any]) -> str:
    """Return the error of the map in words, such as "map to 3.2%"; empty where it is not known."""
    # Older records have none.
    error = complete.get("map_error")
    return "" if error is None else f"map to {max(100 * error, 0.01):.2g}%"
