"""The keyword options of public functions, declared once and visible in help()."""

from __future__ import annotations

import inspect
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ForwardRef, ParamSpec, TypeVar

from typing_extensions import TypedDict

from napari_restore.api._images import Bands, Pathlike
from napari_restore.errors import BadRegion
from napari_restore.questions import (
    AttendKeywords,
    AttributeKeywords,
    MachineKeywords,
    ReadingKeywords,
    Region,
    options_of,
)

if TYPE_CHECKING:
    from napari_restore.explain import PartialAttribution

P = ParamSpec("P")
R = TypeVar("R")


class AttributeOptions(AttributeKeywords, ReadingKeywords, MachineKeywords, total=False):
    """Options of `attribute` beside image, model and place."""

    stop: threading.Event | None
    watch: Callable[[PartialAttribution], None] | None


class SessionOptions(ReadingKeywords, MachineKeywords, total=False):
    """Options of `attention_session` beside image, model and `emit`."""

    stop: threading.Event | None


class AttendOptions(AttendKeywords, SessionOptions, total=False):
    """Options of `attend` beside image, model and queries."""


class ImageOptions(TypedDict, total=False):
    """How images are opened, as for `open_image`."""

    bands: Bands | None
    sensor: Pathlike | None
    allow_outside: bool
    plane: int | None


class ModelOptions(TypedDict, total=False):
    """How several models are loaded."""

    weights: str | None
    parameters: Mapping[str, Any] | None
    trust: bool


class TableOptions(ImageOptions, ModelOptions, AttributeOptions, total=False):
    """Options of `attribute_table` beside images, models and places."""

    level: int
    pieces: list[Any] | None


class _Default:
    """Placeholder in a signature for a default that is declared where the option is used."""

    def __repr__(self) -> str:
        return "..."


def documents_options(
    keywords: type, *questions: type
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that its signature and its docstring list its ``**options``.

    `keywords` is the TypedDict of the annotation ``Unpack[…]``. Defaults are those of `questions`, or
    shown as ``...``; of these the docstring has the help in place of ``{options}``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own_parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        asked = options_of(*questions)
        option_parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=asked[name].default if name in asked else _Default(),
                annotation=kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind,
            )
            for name, kind in keywords.__annotations__.items()
        ]
        shown = signature.replace(parameters=[*own_parameters, *option_parameters])
        function.__signature__ = shown  # type: ignore[attr-defined]
        if function.__doc__ is not None:
            helps = {
                name: textwrap.fill(each.text, 90, subsequent_indent="    ")
                for name, each in asked.items()
            }
            # In the order of the signature.
            entries = [
                f"{p.name}\n    {helps[p.name]}" for p in option_parameters if p.name in helps
            ]
            # Python 3.13 removes the indentation, earlier ones leave it.
            doc = inspect.cleandoc(function.__doc__)
            function.__doc__ = doc.replace("{options}", "\n".join(entries)) + "\n"
        return function

    return decorate


def checked_regions(region: Any) -> Region | list[Region] | None:
    """Return a `Region`, several, or None; raises `BadRegion` for bare numbers, which are ambiguous."""
    if region is None or isinstance(region, Region):
        return region
    if not isinstance(region, Iterable) or any(isinstance(part, Real) for part in region):
        return checked_region(region, "region")
    return [checked_region(each, "region") for each in region]


def checked_region(box: Any, name: str) -> Region:
    """Return `box` if it is a `Region`; raises `BadRegion`."""
    if isinstance(box, Region):
        return box
    raise BadRegion(
        f"{name} = {box!r} may be corners or a corner and a size.",
        "Write Region(y0, x0, y1, x1) or Region.from_xywh(x, y, width, height).",
    )
