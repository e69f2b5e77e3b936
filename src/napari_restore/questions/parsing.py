"""Values of fields, parsed from text."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable

from napari_restore.questions._types import WHOLE

CURVE_STEP = 0.0001
"""Least distance of the points of a tone curve: float32 distinguishes them."""


def assignment(text: str) -> tuple[str, str]:
    """Parse ``name=value``; the model's card has the type."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name.strip(), value.strip()


def number(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def millimetres(text: str) -> float:
    """Parse a length such as ``85`` or ``85mm``."""
    return number(text.removesuffix("mm").strip())


def names(text: str) -> list[str]:
    """Parse names with commas between."""
    return [name.strip() for name in text.split(",")]


def number_or(word: str) -> Callable[[str], float | str]:
    """Return what parses a finite number, or this word."""
    return lambda text: text if text == word else number(text)


def natural(text: str) -> int:
    """Parse a whole number from 1 up."""
    return _whole(text, 1)


def natural_or_whole(text: str) -> int | str:
    """Parse a whole number from 1 up, or ``whole``."""
    return text if text == WHOLE else natural(text)


def count(text: str) -> int:
    """Parse a whole number from 0 up."""
    return _whole(text, 0)


def count_or_planes(text: str) -> int | str:
    """Parse a whole number from 0 up, ``all`` or ``A:B``; `planes_asked` says which these are."""
    return text if text == "all" or ":" in text else count(text)


def count_or_all(text: str) -> int:
    """Parse a whole number from 0 up; -1 for ``all``."""
    return -1 if text == "all" else count(text)


def curve(text: str) -> str:
    """Parse the points of a tone curve; the text itself."""
    try:
        curve_points(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def curve_points(text: str) -> tuple[tuple[float, float], ...]:
    """Return the points of a tone curve, ``x,y:x,y``; `ValueError` that says why it is none."""
    try:
        pairs = (pair.split(",") for pair in text.split(":"))
        found = [(float(x), float(y)) for x, y in pairs]
    except ValueError:
        found = []
    if len(found) < 2:
        raise ValueError(f"{text!r} is not of the form x,y:x,y")
    if not all(0 <= value <= 1 for pair in found for value in pair):
        raise ValueError(f"{text!r} has a value outside 0 … 1")
    if any(round(b[0] - a[0], 6) < CURVE_STEP for a, b in itertools.pairwise(found)):
        raise ValueError(
            f"in {text!r} the first numbers of the points do not increase, by {CURVE_STEP} at least"
        )
    return tuple(found)


def curve_text(points: Iterable[tuple[float, float]]) -> str:
    """Return points as the text that `curve_points` parses; `ValueError` where they are none."""
    try:
        return ":".join(",".join(f"{value:.12g}" for value in pair) for pair in points)
    except (TypeError, ValueError):
        raise ValueError(f"{points!r} is no sequence of points (x, y)") from None


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    return value
