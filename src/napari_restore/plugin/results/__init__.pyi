from ._adjust_section import AdjustSection
from ._earlier_results_view import EarlierRow, apply_settings, record_of, request_of_stored
from ._export_section import FORMATS, ExportSection
from ._results_section import RecordView, ResultsSection
from ._save_dialog import ask_save_path, save, save_with_dialog, store_around
from ._tone_section import ToneSection
from ._variant_text import area_of, part_of, record_rows, run_summary, target_of_mask

__all__ = [
    "FORMATS",
    "AdjustSection",
    "EarlierRow",
    "ExportSection",
    "RecordView",
    "ResultsSection",
    "ToneSection",
    "apply_settings",
    "area_of",
    "ask_save_path",
    "part_of",
    "record_of",
    "record_rows",
    "request_of_stored",
    "run_summary",
    "save",
    "save_with_dialog",
    "store_around",
    "target_of_mask",
]
