from ._region import CELL, Region
from .executors._child import Worker, as_json, from_json
from .executors._child_executor import ChildExecutor
from .executors._dask import DaskExecutor, topic_of
from .executors._range_run import RangeRun, count_parts
from .executors.connection import Cluster, RemoteWork, on_machine
from .executors.item_run import ItemRun, Remote
from .executors.ranges import RangeReport
from .ledger._chunk_files import create_array, write_chunks
from .ledger.folder import StoreBusy, lock_exclusive, lock_shared, remove_unused, writer_of
from .ledger.store import PartWriter, ResultStore
from .machine.budget import budget_of, peak_in
from .machine.device import choose_device
from .machine.failures import clear_frames, is_out_of_memory
from .machine.threads import Threads
from .masks.mask_strength import MaskGrid, pieces_of
from .masks.open_mask import MaskChoices, choices_of
from .planning._planning import make_plan, plan_in_sweeps
from .planning._stages import of_command
from .planning.layout import block_too_large
from .planning.measurements import kept_sizes, seconds_measuring, tried_now
from .planning.plan import Plan, deserialise_plan, serialise_plan
from .planning.probe import probe
from .planning.tile_invariance import describe_tile_invariance
from .results._kept_results import (
    KeptResult,
    forget_result,
    keep_result,
    kept_name,
    kept_results,
    unlist_result,
)
from .results.result import Result, digest
from .running._job import Job
from .running.events import (
    Event,
    Finished,
    ImageStarted,
    Note,
    Phase,
    Progress,
    Stopped,
    TileDone,
    event_from_dict,
    seconds_left,
)
from .running.executor import Executor, Stage
from .running.run import Run, begun_anew, warm_up
from .running.threads import ThreadExecutor
from .statistics._colour import mean_colour
from .statistics.bands import missing_roles
from .statistics.context import (
    compute_context,
    context_of_images,
    joint_context,
    load_context,
    save_context,
)
from .statistics.context_blocks import BlockPart

__all__ = [
    "CELL",
    "BlockPart",
    "ChildExecutor",
    "Cluster",
    "DaskExecutor",
    "Event",
    "Executor",
    "Finished",
    "ImageStarted",
    "ItemRun",
    "Job",
    "KeptResult",
    "MaskChoices",
    "MaskGrid",
    "Note",
    "PartWriter",
    "Phase",
    "Plan",
    "Progress",
    "RangeReport",
    "RangeRun",
    "Region",
    "Remote",
    "RemoteWork",
    "Result",
    "ResultStore",
    "Run",
    "Stage",
    "Stopped",
    "StoreBusy",
    "ThreadExecutor",
    "Threads",
    "TileDone",
    "Worker",
    "as_json",
    "begun_anew",
    "block_too_large",
    "budget_of",
    "choices_of",
    "choose_device",
    "clear_frames",
    "compute_context",
    "context_of_images",
    "count_parts",
    "create_array",
    "describe_tile_invariance",
    "deserialise_plan",
    "digest",
    "event_from_dict",
    "forget_result",
    "from_json",
    "is_out_of_memory",
    "joint_context",
    "keep_result",
    "kept_name",
    "kept_results",
    "kept_sizes",
    "load_context",
    "lock_exclusive",
    "lock_shared",
    "make_plan",
    "mean_colour",
    "missing_roles",
    "of_command",
    "on_machine",
    "peak_in",
    "pieces_of",
    "plan_in_sweeps",
    "probe",
    "remove_unused",
    "save_context",
    "seconds_left",
    "seconds_measuring",
    "serialise_plan",
    "topic_of",
    "tried_now",
    "unlist_result",
    "warm_up",
    "write_chunks",
    "writer_of",
]
