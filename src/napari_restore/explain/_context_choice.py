"""Whether the gradient of a map goes through the context, and how that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from napari_restore.engine.gradients import GradientSource
from napari_restore.errors import BadParameter
from napari_restore.explain._baselines import OpenModel
from napari_restore.explain._context_gradient import ContextGradient
from napari_restore.explain._methods import AUTO, STOP, THROUGH, Method
from napari_restore.explain._quadrature import NESTED
from napari_restore.models import StagedModel

NONE = "none"
"""What is used of a context that the model does not have."""
LIMIT_SECONDS = 10.0
"""Predicted cost from which on ``auto`` stops at the context."""
POINT_SECONDS = 0.2
"""Per point of the path and million pixels of the overview, on two cores. A constant in place of a
measurement: the same question must give the same map on every machine."""
TILE_SECONDS = 0.04
"""That every tile of a staged model adds to this, per point and million pixels of the overview."""
POINTS = NESTED[1]
"""Of a path whose number of points is found on the way."""
UNMOVED = ("blur", "lam-2021")
"""Paths along which the overview stays as it is."""


@dataclass(frozen=True)
class ContextChoice:
    """What becomes of the context along the path; a part of the record."""

    requested: str
    """``auto``, ``stop`` or ``through``."""
    used: str
    """``stop``, ``through`` or ``none``."""
    reason: str
    """Half a sentence."""
    predicted_seconds: float | None = None
    """That going through the context adds on two cores; None where it is not possible."""

    def stopped_for(self, reason: str) -> ContextChoice:
        """Return the choice to stop, for this reason."""
        return replace(self, used=STOP, reason=reason)


def predicted_seconds(pixels: int, points: int | None, tiles: int = 0) -> float:
    """Predict the seconds that going through the context adds for an overview of so many pixels; `points` None: as needed.

    `tiles` are those of a staged model, each of which has a gradient by the whole context.
    """
    a_point = (POINT_SECONDS + TILE_SECONDS * tiles) * pixels / 1e6
    return a_point * (POINTS if points is None else points)


def choose_context(
    asked: str,
    source: GradientSource,
    method: Method,
    baseline: str,
    clear: GradientSource | None,
    open_model: OpenModel,
    *,
    points: int | None,
    check: str | None,
    options: Mapping[str, Any],
) -> tuple[ContextChoice, ContextGradient | None]:
    """Decide before the path is followed; and give the overview's part of it, where it has one.

    That is there where the gradient stops, too: it tells what such a map leaves out. Nothing here
    is measured, so that the choice is the same on every machine. Raises `BadParameter` where
    ``through`` is asked for and not possible.
    """

    def through() -> ContextGradient:
        return ContextGradient(source, method.path, baseline, clear, open_model)

    def cost(found: ContextGradient) -> float:
        return predicted_seconds(found.region.pixels, points, _tiles(source))

    if asked == THROUGH:
        found = through()
        seconds = cost(found)
        return ContextChoice(asked, THROUGH, "asked for", round(seconds, 1)), found
    if not source.statistics:
        return ContextChoice(asked, NONE, "the model takes nothing from the whole image"), None
    choice = ContextChoice(asked, STOP, "asked for")
    if not method.path:
        return choice.stopped_for(
            f"{method.name} has no baseline whose context could be taken"
        ), None
    if method.path == "dam-released":
        return choice.stopped_for(f"{method.name} is no path integral"), None
    if method.path in UNMOVED:
        return choice.stopped_for("the path leaves the overview as it is"), None
    if options.get("context") is not None:
        return choice.stopped_for("it is of other images"), None
    try:
        found = through()
    except BadParameter as error:
        cause = error.message.rstrip(".")
        return choice.stopped_for(cause[:1].lower() + cause[1:]), None
    seconds = cost(found)
    choice = replace(choice, predicted_seconds=round(seconds, 1))
    if asked != AUTO:
        return choice, found
    if method.explainer is not None:
        return choice.stopped_for(f"{method.name} asks about the pixels alone"), found
    if check is not None:
        return choice.stopped_for("the check asks about the pixels alone"), found
    if seconds >= LIMIT_SECONDS:
        return choice.stopped_for(
            f"going through it was predicted to take {seconds:.0f} s more"
        ), found
    return replace(choice, used=THROUGH, reason=f"predicted to take {seconds:.1f} s more"), found


def _tiles(source: GradientSource) -> int:
    """Tiles of a staged model; 0 of another."""
    model = source.plan.model
    if not isinstance(model, StagedModel):
        return 0
    height, width = source.size
    return -(-height // model.tile) * -(-width // model.tile)


def share_of(through: float | None, rest: float) -> float | None:
    """How much of a change came through the context, 0 … 1; None where nothing is known.

    `through` is that part of it and `rest` the part of the pixels; they may work against each other.
    """
    if through is None or not abs(through) + abs(rest):
        return None
    return abs(through) / (abs(through) + abs(rest))
