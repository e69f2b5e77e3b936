"""One bounded-memory tile engine: plans, runs and resumes; knows no model and no window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_restore.engine._events import (
    Event,
    Finished,
    ImageStarted,
    Note,
    Phase,
    Progress,
    Stopped,
    TileDone,
    event_from_dict,
)
from napari_restore.engine._region import Region

if TYPE_CHECKING:
    from napari_restore.engine._adjust import Adjustment
    from napari_restore.engine._bands import missing_roles
    from napari_restore.engine._budget import peak_in
    from napari_restore.engine._child import Worker
    from napari_restore.engine._colour import mean_colour
    from napari_restore.engine._context import (
        compute_context,
        context_of_images,
        joint_context,
        load_context,
        save_context,
    )
    from napari_restore.engine._job import Job, ProcessJob
    from napari_restore.engine._kept import (
        KeptResult,
        forget_result,
        keep_result,
        kept_results,
        name_of_plan,
    )
    from napari_restore.engine._plan import Plan, block_too_large
    from napari_restore.engine._planning import make_plan
    from napari_restore.engine._probe import probe
    from napari_restore.engine._result import Result, digest
    from napari_restore.engine._settled import plan_from_settled, settled
    from napari_restore.engine._start import warm_up
    from napari_restore.engine._store import ResultStore, discard
    from napari_restore.engine._tile_invariance import invariance_here

_LAZY = {
    "Adjustment": "_adjust",
    "Job": "_job",
    "Plan": "_plan",
    "ProcessJob": "_job",
    "Result": "_result",
    "ResultStore": "_store",
    "Worker": "_child",
    "block_too_large": "_plan",
    "compute_context": "_context",
    "digest": "_result",
    "discard": "_store",
    "context_of_images": "_context",
    "forget_result": "_kept",
    "invariance_here": "_tile_invariance",
    "joint_context": "_context",
    "keep_result": "_kept",
    "KeptResult": "_kept",
    "kept_results": "_kept",
    "load_context": "_context",
    "make_plan": "_planning",
    "name_of_plan": "_kept",
    "mean_colour": "_colour",
    "missing_roles": "_bands",
    "peak_in": "_budget",
    "plan_from_settled": "_settled",
    "probe": "_probe",
    "save_context": "_context",
    "settled": "_settled",
    "warm_up": "_start",
}

__all__ = [
    "Adjustment",
    "Event",
    "Finished",
    "ImageStarted",
    "Job",
    "KeptResult",
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
    "Worker",
    "block_too_large",
    "compute_context",
    "context_of_images",
    "digest",
    "discard",
    "event_from_dict",
    "forget_result",
    "invariance_here",
    "joint_context",
    "keep_result",
    "kept_results",
    "load_context",
    "make_plan",
    "mean_colour",
    "missing_roles",
    "name_of_plan",
    "peak_in",
    "plan_from_settled",
    "probe",
    "save_context",
    "settled",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch or zarr only when it is asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
