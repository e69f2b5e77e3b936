"""Keywords of questions as typed dictionaries; written by `lab/scripts/keywords.py`, not by hand."""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import TypedDict

from napari_restore.extension import Pathlike
from napari_restore_lab._questions import Degradation, SceneKind


class EvaluateKeywords(TypedDict, total=False):
    """Keywords of `Evaluate`."""

    data: Pathlike | None
    degradation: Degradation
    level: float | None
    split: str
    spectrum: str
    seed: int
    scene: SceneKind | None
    longest: int | None
    keep: bool
    bands: str | None
    output: Pathlike | None
    baselines: bool
    metrics: Sequence[str]
    clear: bool
    strips: int


class HazePairsKeywords(TypedDict, total=False):
    """Keywords of `HazePairs`."""

    spectrum: str
    seed: int
    scene: Literal["auto", "aerial", "natural"]
    strength: Sequence[float] | None
    depth: Pathlike | None
    size: int | None
    bands: str | None
    split: str | None
