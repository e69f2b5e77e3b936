"""Registry of methods that are not path integrals: built in, of captum, of other packages."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from napari_restore.errors import BadParameter
from napari_restore.explain.explainers import _captum, _cross_checks
from napari_restore.explain.explainers._problem import Explainer

GROUP = "napari_restore.explainers"
"""Entry-point group in which other packages offer an `Explainer`, or a function
``(problem, **arguments) -> map`` alone, by the entry point's name."""


@cache
def _installed() -> dict[str, Explainer | str]:
    """Return the methods of other packages by name; an error message for one that cannot be used.

    One broken package must not disable the others.
    """
    explainers: dict[str, Explainer | str] = {}
    for point in entry_points(group=GROUP):
        try:
            loaded = point.load()
        except Exception as error:
            explainers[point.name] = (
                f"Method {point.name} of another package failed to load: {error}."
            )
            continue
        if isinstance(loaded, Explainer):
            explainers[point.name] = replace(loaded, package=loaded.package or _package(point))
        elif callable(loaded):
            explainers[point.name] = Explainer(loaded, package=_package(point))
        else:
            explainers[point.name] = f"Method {point.name} of another package is not callable."
    return explainers


def _package(point: EntryPoint) -> str:
    """Return the distribution of an entry point, else its top-level module."""
    return point.dist.name if point.dist is not None else point.value.partition(".")[0]


def explainer_ids() -> tuple[str, ...]:
    """Return the names of all usable methods except those of captum, the built-in ones first."""
    usable = (
        name for name, explainers in _installed().items() if isinstance(explainers, Explainer)
    )
    return tuple(dict.fromkeys([*_cross_checks.EXPLAINERS, *usable]))


def explainer_of(name: str) -> Explainer | None:
    """Return the method of a name, None if unknown; raises `BadParameter` if it cannot be used."""
    if name.startswith(_captum.PREFIX):
        return _captum.explainer_of(name)
    explainers = _cross_checks.EXPLAINERS.get(name) or _installed().get(name)
    if isinstance(explainers, str):
        raise BadParameter(explainers, "Update or remove that package.")
    return explainers
