"""Quality bits as categories with colours, and their shares as text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Category(NamedTuple):
    """What a label of the quality layer means."""

    label: int
    bit: int
    """Of the quality map."""
    name: str
    """As in the record's `quality_shares`."""
    title: str
    colour: str


CATEGORIES = (
    Category(1, 1, "unchanged", "unchanged", "#8a8a8a"),
    Category(2, 8, "low_transmission", "low transmission", "#e69f00"),
    Category(3, 2, "clipped_low", "now black", "#0072b2"),
    Category(4, 4, "clipped_high", "now white", "#cc79a7"),
    Category(5, 16, "excluded", "excluded", "#009e73"),
    Category(6, 32, "nodata", "no data", "#000000"),
)
"""In the order in which a later one hides an earlier one of the same pixel."""


def categories(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the labels of quality bits; 0 where none is set."""
    labels = np.zeros(bits.shape, np.uint8)
    for category in CATEGORIES:
        labels[(bits & category.bit) > 0] = category.label
    return labels


def categories_of_change(
    before: npt.NDArray[Any], after: npt.NDArray[Any]
) -> npt.NDArray[np.uint8]:
    """Return the labels (h, w) that follow from the pixels (h, w, C) alone."""
    changed = after != before
    bits = np.where(changed.any(2), 0, 1).astype(np.uint8)
    if after.dtype.kind in "iu":
        limits = np.iinfo(after.dtype)
        for limit, bit in ((limits.min, 2), (limits.max, 4)):
            bits[(changed & (after == limit)).any(2)] |= bit
    return categories(bits)


def legend(record: dict[str, Any]) -> str:
    """Return the meaning of the colours, shares of a finished run, and its airlight, as rich text."""
    shares = record["measured"].get("quality_shares") or {}
    words = [
        swatch(category.colour, f"{category.title} {percent(share)}")
        for category in CATEGORIES
        if (share := shares.get(category.name)) is not None
    ]
    return " ".join([*words, *airlight_of(record)])


def airlight_of(record: dict[str, Any]) -> list[str]:
    """Return the colour of the haze that the method found, if it is one for the whole image."""
    colour = (record.get("context") or {}).get("airlight")
    if not isinstance(colour, list) or not 1 <= len(colour) <= 4:
        return []
    shown = colour if len(colour) == 3 else [sum(colour) / len(colour)] * 3
    codes = [round(255 * min(1.0, max(0.0, value))) for value in shown]
    numbers = ", ".join(f"{value:.2f}" for value in colour)
    return [swatch("#" + bytes(codes).hex(), f"airlight {numbers}")]


def swatch(colour: str, words: str) -> str:
    """Return a square of a colour and its meaning, not parted at a line's end."""
    return f'<span style="color:{colour}">■</span>' + f" {words}".replace(" ", "\N{NO-BREAK SPACE}")


def percent(share: float) -> str:
    """Return ``"12.3 %"``; a tiny share is not 0."""
    if 0 < share < 0.0005:
        return "&lt; 0.1 %"
    return f"{share:.1%}".replace("%", "\N{NO-BREAK SPACE}%")
