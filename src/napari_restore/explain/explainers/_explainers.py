"""The methods there are that go along no path: ours, captum's, and those of other packages."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from napari_restore.errors import BadParameter
from napari_restore.explain.explainers import _captum, _cross_checks
from napari_restore.explain.explainers._problem import Explainer

GROUP = "napari_restore.explainers"
"""Entry-point group in which other packages offer an `Explainer`, or a function
``(asked, **arguments) -> map`` alone, by the entry point's name."""


@cache
def _foreign() -> dict[str, Explainer | str]:
    """Methods of other packages; a sentence in place of one that cannot be used.

    One broken package must not take all methods away.
    """
    found: dict[str, Explainer | str] = {}
    for point in entry_points(group=GROUP):
        try:
            offered = point.load()
        except Exception as error:
            found[point.name] = f"Method {point.name} of another package cannot load: {error}."
            continue
        if isinstance(offered, Explainer):
            found[point.name] = replace(offered, package=offered.package or _package(point))
        elif callable(offered):
            found[point.name] = Explainer(offered, package=_package(point))
        else:
            found[point.name] = f"Method {point.name} of another package is no function."
    return found


def _package(point: EntryPoint) -> str:
    """The distribution that offers it, else its top module."""
    return point.dist.name if point.dist is not None else point.value.partition(".")[0]


def explainer_ids() -> tuple[str, ...]:
    """All usable methods but captum's, ours first."""
    usable = (name for name, found in _foreign().items() if isinstance(found, Explainer))
    return tuple(dict.fromkeys([*_cross_checks.EXPLAINERS, *usable]))


def explainer_of(name: str) -> Explainer | None:
    """The method of a name, None if there is none; raises `BadParameter` if it cannot be used."""
    if name.startswith(_captum.PREFIX):
        return _captum.explainer_of(name)
    found = _cross_checks.EXPLAINERS.get(name) or _foreign().get(name)
    if isinstance(found, str):
        raise BadParameter(found, "Update or remove that package.")
    return found
