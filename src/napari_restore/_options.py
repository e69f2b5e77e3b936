"""Options that several parts take, declared once: keywords of functions, values and defaults."""

# Types as such: those who read them at run time need not know this module's names.
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, cast, get_args

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

Pathlike = str | os.PathLike[str]
Size = str | int
"""Bytes, or text such as ``"2GiB"``."""
SceneKind = Literal["aerial", "natural"]
Degradation = Literal["haze", "noise", "lowlight", "bracket"]
OtherBands = Literal["correct", "copy", "drop"]
ContextGradient = Literal["auto", "stop", "through"]
Routing = Literal["fixed", "recomputed"]

AUTO: Final = "auto"
STOP: Final = "stop"
"""Context gradient: the context of the image is a constant."""
THROUGH: Final = "through"
"""Context gradient: the context is recomputed along the path; `AUTO` chooses."""
FIXED: Final = "fixed"
"""Routing: experts and tokens are chosen once for the image."""
RECOMPUTED: Final = "recomputed"
"""Routing: experts and tokens are chosen again at every point of the path."""
CHECK: Final = "insertion-deletion"
"""The check of a map that there is."""

OTHER_BANDS: tuple[str, ...] = get_args(OtherBands)
CONTEXT_GRADIENTS: tuple[str, ...] = get_args(ContextGradient)
ROUTINGS: tuple[str, ...] = get_args(Routing)

K = TypeVar("K")


class ReadingOptions(TypedDict, total=False):
    """How the image is read, and the extent of the model's context; part of a record."""

    extent: str
    black: float | None
    white: float | None
    exclude: Pathlike | None
    context: Pathlike | None
    other_bands: OtherBands | None


class MachineOptions(TypedDict, total=False):
    """Resources of the machine for a run; they change no pixel and are no part of a record."""

    memory: Size | None
    device_memory: Size | None
    device: str
    workers: int | None
    scratch: Pathlike | None


class MethodOptions(TypedDict, total=False):
    """The fields of `MethodSettings` as keywords; part of a record."""

    method: str | None
    objective: str | None
    baseline: str | None
    steps: str | int | None
    rule: str | None
    gap: float
    context_gradient: ContextGradient
    routing: Routing | None
    arguments: Mapping[str, Any] | None
    check: str | None


@dataclass(frozen=True)
class MethodSettings:
    """Method, objective and settings of an attribution; where None, the method's own."""

    method: str | None = None
    objective: str | None = None
    baseline: str | None = None
    steps: str | int | None = None
    rule: str | None = None
    gap: float = 0.01
    context_gradient: ContextGradient = AUTO
    routing: Routing | None = None
    arguments: Mapping[str, Any] | None = field(default_factory=dict)
    check: str | None = None


class AttentionOptions(TypedDict, total=False):
    """The fields of `AttentionSettings` as keywords; part of a record."""

    attended_by: bool
    ablate: bool
    redundancy: bool
    sample: int | None
    seed: int
    random_twin: bool
    attribution: Pathlike | None
    rollout: bool
    residual_weight: float


@dataclass(frozen=True)
class AttentionSettings:
    """What is asked about the attention of a network, beside places and layers."""

    attended_by: bool = False
    ablate: bool = False
    redundancy: bool = False
    sample: int | None = None
    seed: int = 0
    random_twin: bool = False
    attribution: Pathlike | None = None
    rollout: bool = False
    residual_weight: float = 0.5


class AttributionOptions(MethodOptions, ReadingOptions, MachineOptions, total=False):
    """Options of an attribution beside image, model and target."""


class FormatOptions(TypedDict, total=False):
    """Fields of `images.ExportOptions` as keywords, but for `overwrite`; part of a record."""

    compress: str
    cog: bool
    bit_depth: int | None
    quality: int | None
    overviews: bool
    level: int | None
    threads: int | None


class ModelOptions(TypedDict, total=False):
    """How several models are loaded."""

    weights: str | None
    parameters: Mapping[str, Any] | None
    trust: bool


class HazeOptions(TypedDict, total=False):
    """Options of `haze` for pairs."""

    spectrum: str | None
    seed: int
    scene: Literal["aerial", "natural", "auto"]
    strength: Sequence[float] | None
    depth: Pathlike | None
    size: int | None
    split: str | None
    bands: str | None


class EvaluateOptions(ModelOptions, total=False):
    """The fields of `EvaluationSettings` as keywords."""

    data: Pathlike | None
    split: str
    degradation: Degradation
    level: float | None
    spectrum: str
    seed: int
    scene: SceneKind | None
    longest: int | None
    output: Pathlike | None
    baselines: bool
    metrics: Sequence[str]
    clear: bool
    strips: int
    keep: bool
    overwrite: bool
    bands: str | None


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation; see `napari_restore.api.evaluate`."""

    data: Pathlike | None = None
    split: str = "dev"
    degradation: Degradation = "haze"
    level: float | None = None
    spectrum: str = "plumes"
    seed: int = 7
    scene: SceneKind | None = None
    longest: int | None = 1024
    output: Pathlike | None = None
    baselines: bool = True
    metrics: Sequence[str] = ("psnr", "ssim", "ciede2000")
    clear: bool = False
    strips: int = 3
    keep: bool = False
    overwrite: bool = False
    weights: str | None = None
    parameters: Mapping[str, Any] | None = None
    trust: bool = False
    bands: str | None = None


def names_of(kind: type) -> tuple[str, ...]:
    """Return the options that a typed dictionary declares, also by those that it inherits."""
    return tuple(kind.__annotations__)


def part_of(options: Mapping[str, Any], kind: type[K]) -> K:
    """Return those of `options` that the typed dictionary `kind` declares."""
    return cast("K", {name: options[name] for name in names_of(kind) if name in options})


def without(options: Mapping[str, Any], *kinds: type) -> dict[str, Any]:
    """Return `options` but for those that typed dictionaries declare, unknown ones included."""
    names = {name for kind in kinds for name in names_of(kind)}
    return {name: value for name, value in options.items() if name not in names}
