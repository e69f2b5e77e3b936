from . import api as api
from . import engine as engine
from . import errors as errors
from . import images as images
from . import questions as questions
from . import records as records
from .api import (
    Region,
    attend,
    attribute,
    attribute_table,
    band_math,
    band_math_change,
    brackets,
    connect,
    fuse,
    info,
    load_model,
    open_bracket,
    open_image,
    plan,
    rerun,
    restore,
    start,
)

__version__: str

__all__ = [
    "Region",
    "__version__",
    "attend",
    "attribute",
    "attribute_table",
    "band_math",
    "band_math_change",
    "brackets",
    "connect",
    "fuse",
    "info",
    "load_model",
    "open_bracket",
    "open_image",
    "plan",
    "rerun",
    "restore",
    "start",
]
