from ._batches import Batch as Batch, BatchLoader as BatchLoader, Prefetcher as Prefetcher
from ._distance import filled as filled, read_distance as read_distance
from ._pack import (
    INDEX as INDEX,
    Pack as Pack,
    PackedScene as PackedScene,
    compact as compact,
    expand as expand,
    pack as pack,
)
from ._pairs import make_pairs as make_pairs
from ._pictures import Picture as Picture, border_of as border_of, read_picture as read_picture
from ._recipe import Recipe as Recipe
from ._resample import resized as resized
from ._sample import Sample as Sample, Sampler as Sampler
from ._scenes import (
    Scene as Scene,
    by_source as by_source,
    has_splits as has_splits,
    scenes_of as scenes_of,
    shippable as shippable,
    stems_of as stems_of,
)
from ._training_sheet import draw_training as draw_training
