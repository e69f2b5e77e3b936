"""One bounded-memory tile engine: plans, runs and resumes; knows no model and no window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_restore.engine._events import (
    Event,
    Finished,
    Note,
    Phase,
    Progress,
    Stopped,
    TileDone,
    event_from_dict,
)
from napari_restore.engine._region import Region

if TYPE_CHECKING:
    from napari_restore.engine._context import (
        compute_context,
        context_of_images,
        joint_context,
        load_context,
        save_context,
    )
    from napari_restore.engine._job import Job, ProcessJob
    from napari_restore.engine._plan import Plan
    from napari_restore.engine._planning import make_plan
    from napari_restore.engine._result import Result
    from napari_restore.engine._store import ResultStore, discard

_LAZY = {
    "Job": "_job",
    "Plan": "_plan",
    "ProcessJob": "_job",
    "Result": "_result",
    "ResultStore": "_store",
    "compute_context": "_context",
    "discard": "_store",
    "context_of_images": "_context",
    "joint_context": "_context",
    "load_context": "_context",
    "make_plan": "_planning",
    "save_context": "_context",
}

__all__ = [
    "Event",
    "Finished",
    "Job",
    "Note",
    "Phase",
    "Plan",
    "ProcessJob",
    "Progress",
    "Region",
    "Result",
    "ResultStore",
    "Stopped",
    "TileDone",
    "compute_context",
    "context_of_images",
    "discard",
    "event_from_dict",
    "joint_context",
    "load_context",
    "make_plan",
    "save_context",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch or zarr only when it is asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
