"""The keyword options of public functions, declared once and visible in help()."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, ForwardRef, ParamSpec, TypeVar

from typing_extensions import TypedDict

from napari_restore._options import (
    AttentionOptions,
    AttributionOptions,
    MachineOptions,
    ModelOptions,
    ReadingOptions,
    names_of,
)
from napari_restore.api._images import Bands
from napari_restore.engine import PlanOptions as PlanOptions
from napari_restore.engine import Region
from napari_restore.engine import RestoreOptions as RestoreOptions
from napari_restore.errors import BadRegion

if TYPE_CHECKING:
    from napari_restore.explain import PartialAttribution

PLAN_OPTIONS = names_of(PlanOptions)
"""Names of all options of `plan` and `restore`."""
P = ParamSpec("P")
R = TypeVar("R")


class AttributeOptions(AttributionOptions, total=False):
    """Options of `attribute` beside image, model and place."""

    stop: threading.Event | None
    watch: Callable[[PartialAttribution], None] | None


class SessionOptions(ReadingOptions, MachineOptions, total=False):
    """Options of `attention_session` beside image, model and `emit`."""

    stop: threading.Event | None


class AttendOptions(AttentionOptions, SessionOptions, total=False):
    """Options of `attend` beside image, model and places."""


class ImageOptions(TypedDict, total=False):
    """How images are opened, as for `open_image`."""

    bands: Bands | None
    sensor: str | None
    allow_outside: bool


class TableOptions(ImageOptions, ModelOptions, AttributeOptions, total=False):
    """Options of `attribute_table` beside images, models and places."""

    level: int


class _Default:
    """Placeholder in a signature for a default that is declared where the option is used."""

    def __repr__(self) -> str:
        return "..."


def documents_options(
    options: type, settings: type | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that its signature lists its ``**options``.

    `options` is the TypedDict of the annotation ``Unpack[…]``. Defaults are those of the dataclass
    `settings`, or shown as ``...``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own_parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        option_parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(settings, name, _Default()),
                annotation=kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind,
            )
            for name, kind in options.__annotations__.items()
        ]
        shown = signature.replace(parameters=[*own_parameters, *option_parameters])
        function.__signature__ = shown  # type: ignore[attr-defined]
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
