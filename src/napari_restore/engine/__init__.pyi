from ._region import CELL as CELL, Region as Region, cut as cut
from .executors._child import Worker as Worker, as_json as as_json, from_json as from_json
from .executors._child_executor import ChildExecutor as ChildExecutor
from .executors._dask import DaskExecutor as DaskExecutor, topic_of as topic_of
from .executors._range_run import RangeRun as RangeRun, count_parts as count_parts
from .executors.connection import (
    Cluster as Cluster,
    RemoteWork as RemoteWork,
    on_machine as on_machine,
)
from .executors.item_run import ItemRun as ItemRun, Remote as Remote
from .executors.ranges import RangeReport as RangeReport
from .ledger._chunk_files import create_array as create_array, write_chunks as write_chunks
from .ledger.folder import (
    StoreBusy as StoreBusy,
    lock_exclusive as lock_exclusive,
    lock_shared as lock_shared,
    remove_unused as remove_unused,
)
from .ledger.store import PartWriter as PartWriter, ResultStore as ResultStore
from .machine.budget import budget_of as budget_of, peak_in as peak_in
from .machine.device import choose_device as choose_device
from .machine.failures import clear_frames as clear_frames, is_out_of_memory as is_out_of_memory
from .machine.threads import Threads as Threads
from .masks.mask_strength import MaskGrid as MaskGrid, pieces_of as pieces_of
from .masks.open_mask import MaskChoices as MaskChoices, choices_of as choices_of
from .planning._planning import make_plan as make_plan, plan_in_sweeps as plan_in_sweeps
from .planning._stages import of_command as of_command
from .planning.layout import block_too_large as block_too_large
from .planning.measurements import (
    kept_sizes as kept_sizes,
    seconds_measuring as seconds_measuring,
    tried_now as tried_now,
)
from .planning.plan import (
    Plan as Plan,
    deserialise_plan as deserialise_plan,
    serialise_plan as serialise_plan,
)
from .planning.probe import probe as probe
from .planning.tile_invariance import describe_tile_invariance as describe_tile_invariance
from .results._kept_results import (
    KeptResult as KeptResult,
    forget_result as forget_result,
    keep_result as keep_result,
    kept_name as kept_name,
    kept_results as kept_results,
    unlist_result as unlist_result,
)
from .results.result import Result as Result, digest as digest
from .running._job import Job as Job
from .running.events import (
    Emit as Emit,
    Event as Event,
    Finished as Finished,
    ImageStarted as ImageStarted,
    Note as Note,
    Phase as Phase,
    Progress as Progress,
    Stopped as Stopped,
    TileDone as TileDone,
    event_from_dict as event_from_dict,
    seconds_left as seconds_left,
)
from .running.executor import Executor as Executor, Stage as Stage
from .running.run import Run as Run, begun_anew as begun_anew, warm_up as warm_up
from .running.threads import ThreadExecutor as ThreadExecutor
from .statistics._colour import mean_colour as mean_colour
from .statistics.bands import missing_roles as missing_roles
from .statistics.context import (
    compute_context as compute_context,
    context_of_images as context_of_images,
    save_context as save_context,
)
from .statistics.context_blocks import BlockPart as BlockPart
