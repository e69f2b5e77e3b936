"""Decides whether the gradient of a map goes through the context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.errors import BadParameter
from napari_restore.explain.attribution._request import CheckedAttribution
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.explain.attribution.quadrature import NESTED
from napari_restore.models import CutModel
from napari_restore.questions import AUTO, STOP, THROUGH

NONE = "none"
"""Value of `ContextChoice.used` for models without a context."""
LIMIT_SECONDS = 10.0
"""Predicted cost from which ``auto`` treats the context as constant."""
POINT_SECONDS = 0.2
"""Seconds per point of the path and million pixels of the overview, on two cores. A constant in place
of a measurement: the same request must give the same map on every machine."""
SWEPT_SECONDS = 20.0
"""Seconds per point of the path, million pixels of the image and million weights, that going through
the sweeps of a model adds on two cores."""
TILE_SECONDS = 0.04
"""Seconds that each tile of a model with fixed tiles adds, per point and million pixels of the overview."""
POINTS = NESTED[1]
"""Assumed points of a path whose number of points is adaptive."""
OVERVIEW_UNCHANGED = ("blur", "lam-2021")
"""Paths along which the overview does not change."""


@dataclass(frozen=True)
class ContextChoice:
    """How the context is treated along the path; a part of the record."""

    requested: str
    """``auto``, ``stop`` or ``through``."""
    used: str
    """``stop``, ``through`` or ``none``."""
    reason: str
    """Clause that gives the reason."""
    predicted_seconds: float | None = None
    """Time that going through the context adds on two cores; None where it is not possible."""

    def stopped_for(self, reason: str) -> ContextChoice:
        """Return a choice to treat the context as constant, with this reason."""
        return replace(self, used=STOP, reason=reason)


def predicted_seconds(pixels: int, points: int | None, tiles: int = 0) -> float:
    """Predict the seconds that going through the context adds for an overview of so many pixels; `points` None: as needed.

    `tiles` are those of a model with fixed tiles, each of which has a gradient by the whole context.
    """
    point_seconds = (POINT_SECONDS + TILE_SECONDS * tiles) * pixels / 1e6
    return point_seconds * (POINTS if points is None else points)


def swept_seconds(source: GradientSource, points: int | None) -> float:
    """Predict the seconds that going through what sweeps count adds, as `predicted_seconds` does."""
    weights = sum(parameter.numel() for parameter in source.plan.model.parameters())
    point_seconds = SWEPT_SECONDS * source.swept_box.pixels / 1e6 * weights / 1e6
    return point_seconds * (POINTS if points is None else points)


def choose_context(
    request: CheckedAttribution, source: GradientSource, open_context: Callable[[], ContextGradient]
) -> tuple[ContextChoice, ContextGradient | None]:
    """Return the choice before the path is integrated, and the context; raises `BadParameter`."""
    # The context is returned also where the gradient stops, to measure what such a map omits; but
    # not for a model whose sweeps count, where that would take all sweeps. Nothing here is timed,
    # so that the choice is the same on every machine.
    requested, counted = request.settings.context_gradient, bool(source.plan.model.counted)

    def opened() -> tuple[ContextGradient | None, float]:
        """Return the context, and the seconds that going through it adds."""
        seconds = swept_seconds(source, request.points) if counted else 0.0
        if counted and not source.plan.model.card.needs_context:
            return None, seconds
        context = open_context()
        pixels = context.region.pixels
        return context, seconds + predicted_seconds(pixels, request.points, _tiles(source))

    if source.plan.computing.is_whole and not source.statistics:
        return ContextChoice(
            requested, NONE, "the gradient goes through all that one pass is"
        ), None
    if requested == THROUGH:
        context, seconds = opened()
        return ContextChoice(requested, THROUGH, "requested", round(seconds, 1)), context
    if not source.statistics:
        return ContextChoice(requested, NONE, "the model takes nothing from the whole image"), None
    choice = ContextChoice(requested, STOP, "requested")
    if reason := _why_unknown(request, counted):
        return choice.stopped_for(reason), None
    try:
        context, seconds = opened()
    except BadParameter as error:
        cause = error.message.rstrip(".")
        return choice.stopped_for(cause[:1].lower() + cause[1:]), None
    choice = replace(choice, predicted_seconds=round(seconds, 1))
    stopped = None if counted else context
    if requested != AUTO:
        return choice, stopped
    # The gradient of a network in one pass goes through all that it is: its sweeps must not change that.
    spared = 0.0 if isinstance(source.plan.model, CutModel) else seconds
    if reason := _why_constant(request, spared):
        return choice.stopped_for(reason), stopped
    return replace(choice, used=THROUGH, reason=f"predicted to take {seconds:.1f} s more"), context


def _why_unknown(request: CheckedAttribution, counted: bool) -> str | None:
    """Return why the context along the path is unknown or constant; None where it changes."""
    method = request.method
    if not method.path:
        return f"{method.name} has no baseline whose context could be taken"
    if method.path == "dam-released":
        return f"{method.name} is no path integral"
    # What sweeps have `counted` changes with the pixels, whatever the overview does.
    if method.path in OVERVIEW_UNCHANGED and not counted:
        return "the path leaves the overview as it is"
    if request.has_context_file:
        return "the context is of other images"
    return None


def _why_constant(request: CheckedAttribution, seconds: float) -> str | None:
    """Return why ``auto`` takes the context as a constant; None where it goes through."""
    if request.method.explainer is not None:
        return f"{request.method.name} attributes to the pixels alone"
    if request.settings.check is not None:
        return "the check attributes to the pixels alone"
    if seconds >= LIMIT_SECONDS:
        return f"going through it was predicted to take {seconds:.0f} s more"
    return None


def _tiles(source: GradientSource) -> int:
    """Return the number of tiles of a model whose tiles are fixed, 0 for others."""
    tile = source.plan.model.fixed_tile
    if tile is None:
        return 0
    height, width = source.size
    return -(-height // tile) * -(-width // tile)


def share_of(through: float | None, rest: float) -> float | None:
    """Return the share of a change that came `through` the context, not by the `rest`, 0 … 1; None if unknown."""
    if through is None or not abs(through) + abs(rest):
        return None
    # The two may have opposite signs.
    return abs(through) / (abs(through) + abs(rest))
