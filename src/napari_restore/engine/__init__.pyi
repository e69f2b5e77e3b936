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
from ._job import Job, ProcessJob
from ._kept_results import KeptResult, forget_result, keep_result, kept_results, name_of_plan
from ._plan import Plan, block_too_large
from ._planning import make_plan
from ._probe import probe
from ._region import Region
from ._result import Result, digest
from ._serialise import deserialise_plan, serialise_plan
from ._start import warm_up
from ._store import ResultStore, discard
from ._store_lock import StoreBusy, lock_exclusive, lock_shared, writer_of
from ._tile import clear_frames, is_out_of_memory
from ._tile_invariance import describe_tile_invariance

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
    "clear_frames",
    "compute_context",
    "context_of_images",
    "create_array",
    "describe_tile_invariance",
    "deserialise_plan",
    "digest",
    "discard",
    "event_from_dict",
    "forget_result",
    "is_out_of_memory",
    "joint_context",
    "keep_result",
    "kept_results",
    "load_context",
    "lock_exclusive",
    "lock_shared",
    "make_plan",
    "mean_colour",
    "missing_roles",
    "name_of_plan",
    "peak_in",
    "probe",
    "return_freed_memory",
    "save_context",
    "serialise_plan",
    "warm_up",
    "write_chunks",
    "writer_of",
]
