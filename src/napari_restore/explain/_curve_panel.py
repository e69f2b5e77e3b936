"""Draws the check of a map: D as pixels are brought in and taken away, in three orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "insertion": "insertion: pixels brought in",
    "deletion": "deletion: taken away",
}
ORDERS = {
    "curve": ("area", "by the map", "#0072B2", "-"),
    "nearest_curve": ("nearest_area", "by distance", "#D55E00", "--"),
    "random_curve": ("random_area", "at random", "#555555", ":"),
}
"""Of each curve: its area, name, colour and line. Colours are Okabe and Ito's, and lines differ, too."""
CHANCE = "0.8"
"""Grey of the lines at 0 and 1, between which a curve goes where pixels do not work against each other."""


def draw_curves(figure: Any, checked: Mapping[str, Any]) -> None:
    """Draw a check of `insertion_deletion`, as the record has it, into a matplotlib figure."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, TITLES.items(), strict=True):
        told = checked[name]
        for level in (0, 1):
            axis.axhline(level, color=CHANCE, lw=0.6, zorder=0)
        for curve, (area, order, colour, line) in ORDERS.items():
            # Records of earlier versions have the map's alone.
            if told.get(curve) is not None:
                label = f"{order}, area {told[area]:.3f}"
                axis.plot(checked["at"], told[curve], line, color=colour, lw=1.2, label=label)
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the pixels")
        # Above, where no curve goes.
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axis.legend(title=title, alignment="left", frameon=False, **place)
    axes[0].set_ylabel("share of D(x) − D(x′)")


def is_drawn(checked: Mapping[str, Any] | None) -> bool:
    """Whether there is a check, and a curve in it: image and baseline may hardly differ in D."""
    return checked is not None and checked["insertion"]["curve"] is not None


def in_words(checked: Mapping[str, Any]) -> str:
    """One line for the caption."""
    if not is_drawn(checked):
        return "undefined: image and baseline hardly differ in D"
    areas = [
        f"{name} {checked[name]['area']:.3f} (by distance {checked[name]['nearest_area']:.3f}, "
        f"random {checked[name]['random_area']:.3f})"
        for name in TITLES
    ]
    return f"{', '.join(areas)}, from {checked['baseline']}"
