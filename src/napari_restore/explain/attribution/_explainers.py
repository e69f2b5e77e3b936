"""Registry of methods that are not path integrals: built in, of captum, of other packages."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint

from napari_restore._entry_points import offered
from napari_restore.errors import BadParameter
from napari_restore.explain.attribution import _captum, _cross_checks
from napari_restore.explain.attribution._arguments import MethodInfo, value_of_text
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


EXAMPLES = {"sliding_window_shapes": str(_captum.SQUARE), "strides": str(_captum.SQUARE // 2)}
"""Values shown for required arguments, and for those whose default takes one evaluation per pixel."""


def method_list() -> list[MethodInfo]:
    """Return the methods that are not path integrals; those of captum where it is installed.

    The import of captum takes about a second.
    """
    explainers = [(name, explainer_of(name)) for name in explainer_ids()]
    methods = [_info_of(name, explainer) for name, explainer in explainers if explainer is not None]
    if importlib.util.find_spec("captum") is not None:
        methods += [
            _info_of(_captum.PREFIX + name, _captum.described(name))
            for name in _captum.runnable_names()
        ]
    return methods


def _info_of(name: str, explainer: Explainer) -> MethodInfo:
    settings = []
    for key, parameter in explainer.all_parameters().items():
        default = parameter.default
        if key in EXAMPLES:
            settings.append(f"{key}={EXAMPLES[key]}")
        elif default is parameter.empty:
            settings.append(f"{key}=")
        elif value_of_text(str(default)) == default:
            settings.append(f"{key}={str(default).replace(' ', '')}")
    return MethodInfo(name, explainer.source, explainer.takes_baseline, " ".join(settings))
