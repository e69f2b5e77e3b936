from ._bands import (
    choose_other_bands,
    corrected_bands,
    is_grey,
    model_bands,
    named_bands,
    other_bands,
    without_others,
)
from ._context import (
    ROUGH,
    Counter,
    compute_context,
    context_key,
    find_context,
    load_context,
    on_threads,
    overview_level,
    rough_extent,
)
from ._context_blocks import BlockPart, ContextBlocks, part_bytes
from ._kept import context_path, find_prepared, has_overview, keep_prepared, prepared_path

__all__ = [
    "ROUGH",
    "BlockPart",
    "ContextBlocks",
    "Counter",
    "choose_other_bands",
    "compute_context",
    "context_key",
    "context_path",
    "corrected_bands",
    "find_context",
    "find_prepared",
    "has_overview",
    "is_grey",
    "keep_prepared",
    "load_context",
    "model_bands",
    "named_bands",
    "on_threads",
    "other_bands",
    "overview_level",
    "part_bytes",
    "prepared_path",
    "rough_extent",
    "without_others",
]
