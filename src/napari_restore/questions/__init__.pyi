from ._explain import Attend as Attend, Attribute as Attribute, Drawing as Drawing
from ._field import (
    Asked as Asked,
    asked as asked,
    options_of as options_of,
    part_of as part_of,
    recorded as recorded,
    refuse_others as refuse_others,
    without as without,
)
from ._keywords import (
    AdjustmentRecord as AdjustmentRecord,
    AttendKeywords as AttendKeywords,
    AttributeKeywords as AttributeKeywords,
    FormatKeywords as FormatKeywords,
    MachineKeywords as MachineKeywords,
    ReadingKeywords as ReadingKeywords,
    RestoreKeywords as RestoreKeywords,
    RestoreRecord as RestoreRecord,
)
from ._region import Region as Region
from ._restore import (
    NEUTRAL_KELVIN as NEUTRAL_KELVIN,
    TONE as TONE,
    Adjustment as Adjustment,
    Computing as Computing,
    Format as Format,
    Machine as Machine,
    Opening as Opening,
    Reading as Reading,
    Restore as Restore,
    Storing as Storing,
    Target as Target,
    colours_of as colours_of,
)
from ._tone_curve import ToneCurve as ToneCurve
from ._types import (
    AUTO as AUTO,
    CHECK as CHECK,
    FIXED as FIXED,
    FLOATS as FLOATS,
    OTHER_BANDS as OTHER_BANDS,
    RECOMPUTED as RECOMPUTED,
    STOP as STOP,
    THROUGH as THROUGH,
    WHOLE as WHOLE,
    Bands as Bands,
    OtherBands as OtherBands,
    Pathlike as Pathlike,
    Routing as Routing,
    Size as Size,
)
from .parsing import curve_points as curve_points, curve_text as curve_text
