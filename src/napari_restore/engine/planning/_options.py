"""Options of a plan, in groups: what is restored, how, on what machine, and what is kept.

Each group is declared twice, as Python has no other way: as a frozen dataclass with the defaults,
which requests, plans and tasks hold, and as a `TypedDict` of the same names, for the keywords of
`make_plan`, `nr.plan` and `nr.restore`. A test compares them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast

from typing_extensions import TypedDict

from napari_restore._options import MachineOptions, OtherBands, Pathlike, ReadingOptions, Size
from napari_restore.engine._region import Region
from napari_restore.engine.planning._adjust import Adjustment

if TYPE_CHECKING:
    from napari_restore.images import Box, Image

T = TypeVar("T")
WHOLE: Literal["whole"] = "whole"
Tile = int | Literal["whole"] | None
"""Side of a tile's core in pixels; "whole": the model sees all of the image in one pass; None: chosen
by cost and budget, "whole" where the model depends on all of the image."""


@dataclass(frozen=True)
class Target:
    """What is restored."""

    region: tuple[Region, ...] | None = None
    """Boxes of level-0 pixels; None: all of the image."""
    mask: str | None = None
    """A file of local strengths, or a mask as text."""
    feather: int = 0
    """Pixels over which the mask's edges are softened."""


class TargetOptions(TypedDict, total=False):
    """The region to restore, and the strength of the model's change."""

    region: Region | Sequence[Region] | None
    mask: Pathlike | None
    feather: int
    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float
    exposure: float | Literal["auto"]


@dataclass(frozen=True)
class Reading:
    """How the image is read, and what of it the model knows."""

    exclude: str | None = None
    """A mask of pixels that stay unchanged and are excluded from statistics."""
    extent: str = "image"
    """Extent of a global model's context: "image", "region", or of a draft; see `make_plan`."""
    context: str | None = None
    """A context file, shared by several images."""
    other_bands: OtherBands | None = None
    black: float | None = None
    white: float | None = None


@dataclass(frozen=True)
class Machine:
    """Resources of the machine for a run; they change no pixel."""

    memory: Size | None = None
    device_memory: Size | None = None
    device: str = "auto"
    workers: int | None = None
    scratch: Pathlike | None = None


@dataclass(frozen=True)
class Computing:
    """How the model is called."""

    tile: Tile = None
    tile_batch: int | None = None
    precision: str = "float32"
    """"auto": see `chosen_precision`; a plan has the precision that was chosen."""
    residuals: str = "auto"
    """Where a swept model's maps lie: a name of `TIERS`."""
    residual_dtype: str | None = None
    """Precision in which they are kept; None: that of the model."""

    @property
    def is_whole(self) -> bool:
        """Whether the model sees all of the image in one pass."""
        return self.tile == WHOLE

    @property
    def side(self) -> int | None:
        """The side of a tile that was asked for, if any."""
        return self.tile if isinstance(self.tile, int) else None

    @property
    def kept_dtype(self) -> str:
        """Precision in which residuals are kept."""
        return self.residual_dtype or self.precision


class ComputingOptions(TypedDict, total=False):
    """How the model is called."""

    tile: Tile
    tile_batch: int | None
    precision: str
    residuals: str
    residual_dtype: str | None


@dataclass(frozen=True)
class Storing:
    """What is kept of the result beside its pixels, and where."""

    maps: bool | Sequence[str] = False
    """Whether to keep the model's side maps, or the names of some."""
    pyramid: bool = False
    """Whether to make the result's pyramid levels during the run."""
    output: Pathlike | None = None
    """The .zarr that the result will be saved to: tiles are written there directly."""
    shared: bool = False
    """Whether several processes write the result: tiles are whole chunks of it."""


class StoringOptions(TypedDict, total=False):
    """What is kept of the result beside its pixels, and where."""

    maps: bool | Sequence[str]
    pyramid: bool
    mosaic: Image | None
    output: Pathlike | None
    shared: bool


class PlanOptions(
    TargetOptions, ReadingOptions, MachineOptions, ComputingOptions, StoringOptions, total=False
):
    """Options of `plan` and `restore`."""


@dataclass(frozen=True)
class RestoreOptions:
    """All options of a plan."""

    target: Target = field(default_factory=Target)
    adjustment: Adjustment = field(default_factory=Adjustment)
    reading: Reading = field(default_factory=Reading)
    computing: Computing = field(default_factory=Computing)
    machine: Machine = field(default_factory=Machine)
    storing: Storing = field(default_factory=Storing)
    mosaic: Image | None = field(default=None, repr=False, compare=False)
    """An image that contains this one and its neighbours."""

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> RestoreOptions:
        """Return the options that the keywords of `PlanOptions` name; `TypeError` for others."""
        left = dict(keywords)
        for name in ("mask", "exclude", "context"):
            if left.get(name) is not None:
                left[name] = os.fspath(left[name])
        if left.get("region") is not None:
            left["region"] = _regions(left["region"])

        def taken(kind: type[T]) -> T:
            names = [f.name for f in fields(kind) if f.name in left]  # type: ignore[arg-type]
            return kind(**{name: left.pop(name) for name in names})

        options = cls(
            taken(Target),
            taken(Adjustment),
            taken(Reading),
            taken(Computing),
            taken(Machine),
            taken(Storing),
            left.pop("mosaic", None),
        )
        if left:
            raise TypeError(f"make_plan() got an unexpected keyword argument {next(iter(left))!r}")
        return options

    def keywords(self) -> PlanOptions:
        """Return all options as the keywords of `PlanOptions`."""
        groups = vars(self).copy()
        flat: dict[str, Any] = {"mosaic": groups.pop("mosaic")}
        for group in groups.values():
            flat |= vars(group)
        return cast("PlanOptions", flat)

    def replacing(self, **keywords: Unpack[PlanOptions]) -> RestoreOptions:
        """Return these options with others for `keywords`."""
        return RestoreOptions.of({**self.keywords(), **keywords})


def _regions(region: Box | Sequence[Box]) -> tuple[Region, ...]:
    if len(region) == 4 and not any(isinstance(part, (tuple, list)) for part in region):
        return (Region(*(int(v) for v in cast("Box", region))),)
    return tuple(Region(*box) for box in cast("Sequence[Box]", region))
