"""The methods that go along no path, with their settings as text: for whoever lets people choose."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from napari_restore.errors import BadParameter
from napari_restore.explain.explainers import _captum
from napari_restore.explain.explainers._explainers import explainer_ids, explainer_of
from napari_restore.explain.explainers._problem import Explainer

EXAMPLES = {"sliding_window_shapes": str(_captum.SQUARE), "strides": str(_captum.SQUARE // 2)}
"""In place of what is needed and has no default, or one that takes a picture for every pixel."""


@dataclass(frozen=True)
class Offer:
    """A method that can be asked by name."""

    name: str
    source: str
    """Where it was published; may be empty."""
    takes_baseline: bool
    settings: str
    """All of them as `arguments_in` reads them, at their defaults; ``name=`` where there is none."""


def offered() -> list[Offer]:
    """Ours, those of other packages, and captum's where it is installed: its import takes a second."""
    found = [(name, explainer_of(name)) for name in explainer_ids()]
    offers = [_offer(name, explainer) for name, explainer in found if explainer is not None]
    if importlib.util.find_spec("captum") is not None:
        offers += [
            _offer(_captum.PREFIX + name, _captum.described(name)) for name in _captum.able()
        ]
    return offers


def arguments_in(text: str) -> dict[str, Any]:
    """Arguments from ``name=value name=value``, with spaces between them.

    Raises `BadParameter` for what is not of that form.
    """
    found = {}
    for word in re.split(r"\s+(?=\w+=)", text.strip()) if text.strip() else ():
        name, _, value = word.partition("=")
        if not (name.isidentifier() and value.strip()):
            raise BadParameter(
                f"{word!r} is no setting of the form name=value.",
                "Write for instance n=25 sigma=0.15, with spaces between.",
            )
        found[name] = literal(value)
    return found


def literal(text: str) -> Any:
    """A number, a word that Python knows, or a tuple of them; all else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _offer(name: str, explainer: Explainer) -> Offer:
    words = []
    for key, parameter in explainer.known().items():
        default = parameter.default
        if key in EXAMPLES:
            words.append(f"{key}={EXAMPLES[key]}")
        elif default is parameter.empty:
            words.append(f"{key}=")
        elif literal(str(default)) == default:
            words.append(f"{key}={str(default).replace(' ', '')}")
    return Offer(name, explainer.source, explainer.takes_baseline, " ".join(words))
