from ._arguments import (
    boxes_of_projwin as boxes_of_projwin,
    command_of as command_of,
    load_model as load_model,
    may_run_code as may_run_code,
    open_image as open_image,
    plan_arguments as plan_arguments,
)
from ._checks import (
    check_files as check_files,
    check_maps as check_maps,
    identities as identities,
    refuse_existing as refuse_existing,
    refuse_old_record as refuse_old_record,
)
from ._flags import flag as flag, with_flags as with_flags
from ._interrupt import Interrupt as Interrupt, interrupt_of as interrupt_of
from ._main import build_parser as build_parser, main as main
from ._options import (
    RANGE as RANGE,
    RESOURCES as RESOURCES,
    add_cluster as add_cluster,
    add_option as add_option,
    add_options as add_options,
    add_yes as add_yes,
    given as given,
)
from ._outputs import (
    SUMMARY as SUMMARY,
    Item as Item,
    Summary as Summary,
    is_folder as is_folder,
    items_of as items_of,
)
from ._progress import reporter as reporter
from ._result import CommandResult as CommandResult
from ._streams import write_error as write_error
