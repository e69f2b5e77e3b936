from ._combo_box import NarrowComboBox
from ._docks import DockArranger
from ._folding import (
    add_button,
    bring_into_view,
    column_of,
    fill,
    flowing,
    folded,
    form_layout,
    in_a_row,
    one_at_a_time,
    row_of,
    stacked,
)
from ._keys import KEYS, KeyBindings, is_free, with_key
from ._section import Section
from ._settled_button import SettledPresses
from ._wrapped_label import WrappedLabel

__all__ = [
    "KEYS",
    "DockArranger",
    "KeyBindings",
    "NarrowComboBox",
    "Section",
    "SettledPresses",
    "WrappedLabel",
    "add_button",
    "bring_into_view",
    "column_of",
    "fill",
    "flowing",
    "folded",
    "form_layout",
    "in_a_row",
    "is_free",
    "one_at_a_time",
    "row_of",
    "stacked",
    "with_key",
]
