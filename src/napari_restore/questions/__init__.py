"""What is asked of an image, once: options are fields of questions, and all else follows from them."""

from __future__ import annotations

from napari_restore.questions._evaluate import Evaluate
from napari_restore.questions._explain import Attend, Attribute
from napari_restore.questions._field import (
    Asked,
    options_of,
    part_of,
    recorded,
    without,
)
from napari_restore.questions._format import Format
from napari_restore.questions._haze import HazePairs
from napari_restore.questions._keywords import (
    AttendKeywords,
    AttributeKeywords,
    EvaluateKeywords,
    FormatKeywords,
    HazePairsKeywords,
    MachineKeywords,
    ReadingKeywords,
    RestoreKeywords,
    RestoreRecord,
)
from napari_restore.questions._region import Region
from napari_restore.questions._restore import (
    Adjustment,
    Computing,
    Machine,
    Reading,
    Restore,
    Storing,
    Target,
    colours_of,
)
from napari_restore.questions._types import (
    AUTO,
    CHECK,
    CONTEXT_GRADIENTS,
    FIXED,
    FLOATS,
    OTHER_BANDS,
    RECOMPUTED,
    ROUTINGS,
    STOP,
    THROUGH,
    WHOLE,
    Degradation,
    OtherBands,
    Pathlike,
    Routing,
    SceneKind,
    Size,
)

__all__ = [
    "AUTO",
    "CHECK",
    "CONTEXT_GRADIENTS",
    "FIXED",
    "FLOATS",
    "OTHER_BANDS",
    "RECOMPUTED",
    "ROUTINGS",
    "STOP",
    "THROUGH",
    "WHOLE",
    "Adjustment",
    "Asked",
    "Attend",
    "AttendKeywords",
    "Attribute",
    "AttributeKeywords",
    "Computing",
    "Degradation",
    "Evaluate",
    "EvaluateKeywords",
    "Format",
    "FormatKeywords",
    "HazePairs",
    "HazePairsKeywords",
    "Machine",
    "MachineKeywords",
    "OtherBands",
    "Pathlike",
    "Reading",
    "ReadingKeywords",
    "Region",
    "Restore",
    "RestoreKeywords",
    "RestoreRecord",
    "Routing",
    "SceneKind",
    "Size",
    "Storing",
    "Target",
    "colours_of",
    "options_of",
    "part_of",
    "recorded",
    "without",
]
