"""Whether a map follows the gradient through the context, and how that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from napari_restore.engine.gradients import Opened
from napari_restore.errors import BadParameter
from napari_restore.explain._baselines import OpenModel
from napari_restore.explain._followed import Followed
from napari_restore.explain._methods import AUTO, FOLLOWED, HELD, Method
from napari_restore.explain._quadrature import NESTED
from napari_restore.models import StagedModel

NONE = "none"
"""What is used of a context that the model does not have."""
LIMIT_SECONDS = 10.0
"""Predicted cost from which on ``auto`` does not follow."""
POINT_SECONDS = 0.2
"""Per point of the path and million pixels of the overview, on two cores. A constant in place of a
measurement: the same question must give the same map on every machine."""
TILE_SECONDS = 0.04
"""That every tile of a staged model adds to this, per point and million pixels of the overview."""
POINTS = NESTED[1]
"""Of a path whose number of points is found while it is followed."""
UNMOVED = ("blur", "lam-2021")
"""Paths along which the overview stays as it is."""


@dataclass(frozen=True)
class ContextChoice:
    """What becomes of the context along the path; a part of the record."""

    asked: str
    """``auto``, ``held`` or ``followed``."""
    used: str
    """``held``, ``followed`` or ``none``."""
    reason: str
    """Half a sentence."""
    predicted_seconds: float | None = None
    """That following adds on two cores; None where it is not possible."""

    def held_for(self, reason: str) -> ContextChoice:
        """The choice to hold in place of this one."""
        return replace(self, used=HELD, reason=reason)


def predicted_seconds(pixels: int, points: int | None, tiles: int = 0) -> float:
    """Seconds that following adds for an overview of so many pixels; `points` None: as needed.

    `tiles` are those of a staged model, each of which has a gradient by the whole context.
    """
    a_point = (POINT_SECONDS + TILE_SECONDS * tiles) * pixels / 1e6
    return a_point * (POINTS if points is None else points)


def choose_context(
    asked: str,
    opened: Opened,
    method: Method,
    baseline: str,
    clear: Opened | None,
    open_model: OpenModel,
    *,
    points: int | None,
    check: str | None,
    options: Mapping[str, Any],
) -> tuple[ContextChoice, Followed | None]:
    """Decide before the path is followed; and give the overview's part of it, where it has one.

    That is there for a held context, too: it tells what a map without it leaves out. Nothing here
    is measured, so that the choice is the same on every machine. Raises `BadParameter` where
    ``followed`` is asked for and not possible.
    """

    def followed() -> Followed:
        return Followed(opened, method.path, baseline, clear, open_model)

    def cost(found: Followed) -> float:
        return predicted_seconds(found.region.pixels, points, _tiles(opened))

    if asked == FOLLOWED:
        found = followed()
        seconds = cost(found)
        return ContextChoice(asked, FOLLOWED, "asked for", round(seconds, 1)), found
    if not opened.facts:
        return ContextChoice(asked, NONE, "the model takes nothing from the whole image"), None
    choice = ContextChoice(asked, HELD, "asked for")
    if not method.path:
        return choice.held_for(f"{method.name} has no baseline whose context could be taken"), None
    if method.path == "dam-released":
        return choice.held_for(f"{method.name} is no path integral"), None
    if method.path in UNMOVED:
        return choice.held_for("the path leaves the overview as it is"), None
    if options.get("context") is not None:
        return choice.held_for("it is of other images"), None
    try:
        found = followed()
    except BadParameter as error:
        cause = error.message.rstrip(".")
        return choice.held_for(cause[:1].lower() + cause[1:]), None
    seconds = cost(found)
    choice = replace(choice, predicted_seconds=round(seconds, 1))
    if asked != AUTO:
        return choice, found
    if method.explainer is not None:
        return choice.held_for(f"{method.name} asks about the pixels alone"), found
    if check is not None:
        return choice.held_for("the check asks about the pixels alone"), found
    if seconds >= LIMIT_SECONDS:
        return choice.held_for(f"following it was predicted to take {seconds:.0f} s more"), found
    return replace(choice, used=FOLLOWED, reason=f"predicted to take {seconds:.1f} s more"), found


def _tiles(opened: Opened) -> int:
    """Tiles of a staged model; 0 of another."""
    model = opened.plan.model
    if not isinstance(model, StagedModel):
        return 0
    height, width = opened.size
    return -(-height // model.tile) * -(-width // model.tile)


def share_of(through: float | None, rest: float) -> float | None:
    """How much of a change came through the context, 0 … 1; None where nothing is known.

    `through` is that part of it and `rest` the part of the pixels; they may work against each other.
    """
    if through is None or not abs(through) + abs(rest):
        return None
    return abs(through) / (abs(through) + abs(rest))
