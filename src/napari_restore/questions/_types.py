"""Types of what is asked, and the names of its choices."""

import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

Pathlike = str | os.PathLike[str]
Bands = str | Sequence[int | str | None] | Mapping[str, int]
"""``"red=4,green=3,blue=2"``, ``"4,3,2"``, a sequence or a mapping; bands count from 1."""
Size = str | int
"""Bytes, or text such as ``"2GiB"``."""
Tile = int | Literal["whole"] | None
"""Side of a tile's core in pixels; "whole": the model sees all of the image in one pass; None: chosen
by cost and budget, "whole" where the model depends on all of the image."""
OtherBands = Literal["correct", "copy", "drop"]
ContextGradient = Literal["auto", "stop", "through"]
Routing = Literal["fixed", "recomputed"]

WHOLE: Final = "whole"
AUTO: Final = "auto"
STOP: Final = "stop"
"""Context gradient: the context of the image is a constant."""
THROUGH: Final = "through"
"""Context gradient: the context is recomputed along the path; `AUTO` chooses."""
FIXED: Final = "fixed"
"""Routing: experts and tokens are chosen once for the image."""
RECOMPUTED: Final = "recomputed"
"""Routing: experts and tokens are chosen again at every point of the path."""
CHECK: Final = "insertion-deletion"
"""The check of a map that there is."""

FLOATS = ("float32", "bfloat16", "float16")
"""Precisions of a model; the engine's own list would import torch."""
OTHER_BANDS: tuple[str, ...] = get_args(OtherBands)
