"""Keywords of questions as typed dictionaries; written by `scripts/keywords.py`, not by hand."""

# Types as such: those who read them at run time need not know this module's names.
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Required

from annotated_types import Len
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore.questions._region import Region
from napari_restore.questions._types import (
    ContextGradient,
    OtherBands,
    Pathlike,
    Routing,
    Size,
    Tile,
)

Box = Annotated[list[int], Len(4, 4)]
"""[y0, x0, y1, x1], half open."""


class ReadingKeywords(TypedDict, total=False):
    """Keywords of `Reading`."""

    exclude: Pathlike | None
    exclude_values: str | int | Sequence[str | int | float] | None
    exclude_bits: str | int | Sequence[str | int] | None
    exclude_where: str | None
    extent: str
    context: Pathlike | None
    other_bands: OtherBands | None
    black: float | None
    white: float | None


class MachineKeywords(TypedDict, total=False):
    """Keywords of `Machine`."""

    memory: Size | None
    device_memory: Size | None
    device: str
    workers: int | None
    scratch: Pathlike | None


class RestoreKeywords(ReadingKeywords, MachineKeywords, total=False):
    """Keywords of `Restore`."""

    region: Region | Sequence[Region] | None
    mask: Pathlike | None
    feather: int
    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float
    exposure: float | Literal["auto"] | None
    temperature: float
    tint: float
    saturation: float
    highlights: float
    shadows: float
    local_contrast: float
    curve: str | Sequence[tuple[float, float]] | None
    tile: Tile
    tile_batch: int | None
    precision: str
    residuals: str
    residual_dtype: str | None
    maps: bool | Sequence[str]
    pyramid: bool
    output: Pathlike | None
    shared: bool


class AdjustmentRecord(TypedDict, total=False):
    """What a record holds of `Adjustment`."""

    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float
    exposure: float | Literal["auto"] | None
    temperature: float
    tint: float
    saturation: float
    highlights: float
    shadows: float
    local_contrast: float
    curve: str | None


class RestoreRecord(AdjustmentRecord, total=False):
    """What a record holds of `Restore`."""

    region: Required[list[Box]]
    mask: str | None
    feather: int
    exclude: str | None
    exclude_values: str | None
    exclude_bits: str | None
    exclude_where: str | None
    extent: str
    context: str | None
    other_bands: OtherBands | None
    black: float | None
    white: float | None
    tile: Tile
    tile_batch: int | None
    precision: str
    residual_dtype: str | None
    maps: list[str]
    pyramid: bool


class AttributeKeywords(TypedDict, total=False):
    """Keywords of `Attribute`."""

    method: str | None
    objective: str | Callable[[Any], Any] | None
    baseline: object
    steps: str | int | None
    rule: str | None
    gap: float
    context_gradient: ContextGradient
    routing: Routing | None
    arguments: Mapping[str, Any] | None
    layer: str | None
    segments: object
    check: str | None


class AttendKeywords(TypedDict, total=False):
    """Keywords of `Attend`."""

    attended_by: bool
    ablate: bool
    redundancy: bool
    sample: int | None
    seed: int
    random_twin: bool
    attribution: Pathlike | None
    rollout: bool
    residual_weight: float | str


class FormatKeywords(TypedDict, total=False):
    """Keywords of `Format`."""

    cog: bool
    compress: str
    bit_depth: int | None
    quality: int | None
    subsampling: str | None
    profile: str | None
    resize: int | None
    sharpen: bool
    clip: str | None
    overviews: bool
    level: int | None
    threads: int | None
