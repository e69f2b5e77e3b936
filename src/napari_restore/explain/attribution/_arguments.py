"""Settings of methods that are not path integrals, as text; known without torch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from napari_restore.errors import BadParameter


@dataclass(frozen=True)
class MethodInfo:
    """Name, source and settings of a method."""

    name: str
    source: str
    """Where it was published; may be empty."""
    takes_baseline: bool
    settings: str
    """All settings at their defaults in the form of `arguments_in`; ``name=`` without a default."""
    of_layer: bool = False
    """Whether it is of a layer of the network."""
    patch_arguments: tuple[str, ...] = ()
    """Settings for patches of pixels, which segments have no use for."""


def arguments_in(text: str) -> dict[str, Any]:
    """Parse ``name=value name=value``, separated by spaces; raises `BadParameter` for any other form."""
    arguments = {}
    for word in re.split(r"\s+(?=\w+=)", text.strip()) if text.strip() else ():
        name, _, value = word.partition("=")
        if not (name.isidentifier() and value.strip()):
            raise BadParameter(
                f"{word!r} is not a setting of the form name=value.",
                "Write for instance n=25 sigma=0.15, separated by spaces.",
            )
        arguments[name] = argument_value(value)
    return arguments


def argument_value(text: str) -> Any:
    """Return the Python literal that a text is, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
