from ._arguments import boxes_of_projwin, load_model, open_image, plan_arguments
from ._checks import check_files, check_maps, identities, refuse_existing, refuse_old_record
from ._flags import flag, with_flags
from ._interrupt import Interrupt
from ._main import build_parser, main
from ._outputs import SUMMARY, Item, Summary, is_folder, work_items
from ._progress import reporter

__all__ = [
    "SUMMARY",
    "Interrupt",
    "Item",
    "Summary",
    "boxes_of_projwin",
    "build_parser",
    "check_files",
    "check_maps",
    "flag",
    "identities",
    "is_folder",
    "load_model",
    "main",
    "open_image",
    "plan_arguments",
    "refuse_existing",
    "refuse_old_record",
    "reporter",
    "with_flags",
    "work_items",
]
