from ._frame_group import FrameGroup, OpenBracket, OpenFrames, groups_among, numbers_in
from ._fusion_controller import BracketTask, OpeningStep, thumbnail
from ._fusion_tab import FusionTab

__all__ = [
    "BracketTask",
    "FrameGroup",
    "FusionTab",
    "OpenBracket",
    "OpenFrames",
    "OpeningStep",
    "groups_among",
    "numbers_in",
    "thumbnail",
]
