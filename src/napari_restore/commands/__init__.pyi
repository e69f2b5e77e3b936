from ._arguments import (
    boxes_of_projwin,
    command_of,
    load_model,
    may_run_code,
    open_image,
    plan_arguments,
)
from ._checks import check_files, check_maps, identities, refuse_existing, refuse_old_record
from ._flags import flag, with_flags
from ._interrupt import Interrupt, interrupt_of
from ._main import build_parser, main
from ._options import RANGE, RESOURCES, add_cluster, add_option, add_options, add_yes, given
from ._outputs import SUMMARY, Item, Summary, is_folder, items_of
from ._progress import reporter
from ._result import CommandResult
from ._streams import write_error

__all__ = [
    "RANGE",
    "RESOURCES",
    "SUMMARY",
    "CommandResult",
    "Interrupt",
    "Item",
    "Summary",
    "add_cluster",
    "add_option",
    "add_options",
    "add_yes",
    "boxes_of_projwin",
    "build_parser",
    "check_files",
    "check_maps",
    "command_of",
    "flag",
    "given",
    "identities",
    "interrupt_of",
    "is_folder",
    "items_of",
    "load_model",
    "main",
    "may_run_code",
    "open_image",
    "plan_arguments",
    "refuse_existing",
    "refuse_old_record",
    "reporter",
    "with_flags",
    "write_error",
]
