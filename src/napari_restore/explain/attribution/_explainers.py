"""Registry of methods that are not path integrals: built in, of captum, of other packages."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint

from napari_restore._entry_points import offered
from napari_restore.errors import BadParameter
from napari_restore.explain.attribution import _captum, _cross_checks
from napari_restore.explain.attribution._problem import Explainer

GROUP = "napari_restore.explainers"
"""Entry-point group in which other packages offer an `Explainer`, or a function
``(problem, **arguments) -> map`` alone, by the entry point's name."""


@cache
def _foreign() -> dict[str, Explainer | str]:
    """Return the methods of other packages by name; a message in place of one that cannot be used."""
    return offered(GROUP, "Method", _accepted, "function")


def _accepted(point: EntryPoint, loaded: object) -> Explainer | None:
    if isinstance(loaded, Explainer):
        return replace(loaded, package=loaded.package or _package(point))
    return Explainer(loaded, package=_package(point)) if callable(loaded) else None


def _package(point: EntryPoint) -> str:
    """Return the distribution of an entry point, else its top-level module."""
    return point.dist.name if point.dist is not None else point.value.partition(".")[0]


def explainer_ids() -> tuple[str, ...]:
    """Return the names of all usable methods except those of captum, the built-in ones first."""
    usable = (name for name, explainers in _foreign().items() if isinstance(explainers, Explainer))
    return tuple(dict.fromkeys([*_cross_checks.EXPLAINERS, *usable]))


def explainer_of(name: str) -> Explainer | None:
    """Return the method of a name, None if unknown; raises `BadParameter` if it cannot be used."""
    if name.startswith(_captum.PREFIX):
        return _captum.explainer_of(name)
    explainers = _cross_checks.EXPLAINERS.get(name) or _foreign().get(name)
    if isinstance(explainers, str):
        raise BadParameter(explainers, "Update or remove that package.")
    return explainers
