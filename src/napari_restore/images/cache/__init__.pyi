from ._chunks import chunk_cache, fetch_runs, read_valid_window, read_window
from ._folder import (
    OpenEntry,
    cache_dir,
    entry_key,
    free_bytes,
    is_whole,
    mark_entry,
    mark_needed,
    no_space_as_error,
    remove_path,
    trim_cache,
)
from ._level_store import DamagedStore, LevelStore
from ._lock import is_own, make_private, used_by_others

__all__ = [
    "DamagedStore",
    "LevelStore",
    "OpenEntry",
    "cache_dir",
    "chunk_cache",
    "entry_key",
    "fetch_runs",
    "free_bytes",
    "is_own",
    "is_whole",
    "make_private",
    "mark_entry",
    "mark_needed",
    "no_space_as_error",
    "read_valid_window",
    "read_window",
    "remove_path",
    "trim_cache",
    "used_by_others",
]
