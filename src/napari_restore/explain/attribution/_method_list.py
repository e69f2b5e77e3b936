"""Lists the methods that are not path integrals, with their settings as text, for a user interface."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from napari_restore.errors import BadParameter
from napari_restore.explain.attribution import _captum
from napari_restore.explain.attribution._explainers import explainer_ids, explainer_of
from napari_restore.explain.attribution._problem import Explainer

EXAMPLES = {"sliding_window_shapes": str(_captum.SQUARE), "strides": str(_captum.SQUARE // 2)}
"""Values shown for required arguments, and for those whose default takes one evaluation per pixel."""


@dataclass(frozen=True)
class MethodInfo:
    """Name, source and settings of a method."""

    name: str
    source: str
    """Where it was published; may be empty."""
    takes_baseline: bool
    settings: str
    """All settings at their defaults in the form of `arguments_in`; ``name=`` without a default."""


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


def arguments_in(text: str) -> dict[str, Any]:
    """Parse ``name=value name=value``, separated by spaces.

    Raises `BadParameter` for any other form.
    """
    explainers = {}
    for word in re.split(r"\s+(?=\w+=)", text.strip()) if text.strip() else ():
        name, _, value = word.partition("=")
        if not (name.isidentifier() and value.strip()):
            raise BadParameter(
                f"{word!r} is not a setting of the form name=value.",
                "Write for instance n=25 sigma=0.15, separated by spaces.",
            )
        explainers[name] = value_of_text(value)
    return explainers


def value_of_text(text: str) -> Any:
    """Return the Python literal that a text is, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


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
