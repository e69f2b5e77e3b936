from . import (
    api as api,
    engine as engine,
    errors as errors,
    images as images,
    questions as questions,
    records as records,
)
from .api import (
    Region as Region,
    attend as attend,
    attribute as attribute,
    attribute_table as attribute_table,
    band_math as band_math,
    band_math_change as band_math_change,
    brackets as brackets,
    connect as connect,
    fuse as fuse,
    info as info,
    load_model as load_model,
    open_bracket as open_bracket,
    open_image as open_image,
    plan as plan,
    rerun as rerun,
    restore as restore,
    start as start,
)

__version__: str
