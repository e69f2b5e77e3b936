"""Draws the insertion and deletion curves of a map, for three orders of the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "insertion": "insertion: pixels inserted",
    "deletion": "deletion: pixels deleted",
}
ORDERS = {
    "curve": ("area", "by the map", "#0072B2", "-"),
    "nearest_curve": ("nearest_area", "by distance", "#D55E00", "--"),
    "random_curve": ("random_area", "at random", "#555555", ":"),
}
"""Key of the area, label, colour (Okabe and Ito) and line style of each curve."""
CHANCE = "0.8"
"""Grey of the reference lines at 0 and 1."""


def draw_curves(figure: Any, checked: Mapping[str, Any]) -> None:
    """Draw a recorded result of `insertion_deletion` into a matplotlib figure."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, TITLES.items(), strict=True):
        curves = checked[name]
        for level in (0, 1):
            axis.axhline(level, color=CHANCE, lw=0.6, zorder=0)
        for curve, (area, order, colour, line) in ORDERS.items():
            # Records of earlier versions have only the curve of the map's order.
            if curves.get(curve) is not None:
                label = f"{order}, area {curves[area]:.3f}"
                axis.plot(checked["at"], curves[curve], line, color=colour, lw=1.2, label=label)
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the pixels")
        # Above the axes, where it covers no curve.
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axis.legend(title=title, alignment="left", frameon=False, **place)
    axes[0].set_ylabel("share of D(x) − D(x′)")


def is_drawn(checked: Mapping[str, Any] | None) -> bool:
    """Return whether the check has curves: there are none where D of image and baseline is equal."""
    return checked is not None and checked["insertion"]["curve"] is not None


def check_text(checked: Mapping[str, Any]) -> str:
    """Return one line on the check for the caption."""
    if not is_drawn(checked):
        return "undefined: image and baseline hardly differ in D"
    areas = [
        f"{name} {checked[name]['area']:.3f} (by distance {checked[name]['nearest_area']:.3f}, "
        f"random {checked[name]['random_area']:.3f})"
        for name in TITLES
    ]
    return f"{', '.join(areas)}, from {checked['baseline']}"
