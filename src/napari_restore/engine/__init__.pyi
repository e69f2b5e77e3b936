from ._adjust import Adjustment
from ._bands import missing_roles
from ._budget import peak_in
from ._child import Worker
from ._chunk_files import DamagedChunk, create_array, write_chunks
from ._colour import mean_colour
from ._context import compute_context, context_of_images, joint_context, load_context, save_context
from ._device import choose_device, return_freed_memory
from ._events import (
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
from ._hold import StoreBusy, hold, hold_for_writing, writer_of
from ._job import Job, ProcessJob
from ._kept import KeptResult, forget_result, keep_result, kept_results, name_of_plan
from ._plan import Plan, block_too_large
from ._planning import make_plan
from ._probe import probe
from ._region import Region
from ._result import Result, digest
from ._settled import plan_from_settled, settled
from ._start import warm_up
from ._store import ResultStore, discard
from ._tile import is_out_of_memory, let_go
from ._tile_invariance import invariance_here

__all__ = [
    "Adjustment",
    "DamagedChunk",
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
    "StoreBusy",
    "TileDone",
    "Worker",
    "block_too_large",
    "choose_device",
    "compute_context",
    "context_of_images",
    "create_array",
    "digest",
    "discard",
    "event_from_dict",
    "forget_result",
    "hold",
    "hold_for_writing",
    "invariance_here",
    "is_out_of_memory",
    "joint_context",
    "keep_result",
    "kept_results",
    "let_go",
    "load_context",
    "make_plan",
    "mean_colour",
    "missing_roles",
    "name_of_plan",
    "peak_in",
    "plan_from_settled",
    "probe",
    "return_freed_memory",
    "save_context",
    "settled",
    "warm_up",
    "write_chunks",
    "writer_of",
]
