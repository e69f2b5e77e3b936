from ._main_thread import is_main_thread, is_over, on_main_thread, patch_superqt
from ._notices import LABELS, error_text, show_note, show_problem, with_labels
from ._task import THREADS, DebouncedQuery, LatestQuery, Task, in_background
from ._waiting_dialog import WaitingDialog

__all__ = [
    "LABELS",
    "THREADS",
    "DebouncedQuery",
    "LatestQuery",
    "Task",
    "WaitingDialog",
    "error_text",
    "in_background",
    "is_main_thread",
    "is_over",
    "on_main_thread",
    "patch_superqt",
    "show_note",
    "show_problem",
    "with_labels",
]
