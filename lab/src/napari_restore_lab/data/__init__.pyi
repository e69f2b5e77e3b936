from ._batches import Batch, BatchLoader, Prefetcher
from ._distance import filled, read_distance
from ._pack import INDEX, Pack, PackedScene, compact, expand, pack
from ._pairs import make_pairs
from ._pictures import Picture, border_of, read_picture
from ._recipe import Recipe
from ._resample import resized
from ._sample import Sample, Sampler
from ._scenes import Scene, by_source, has_splits, scenes_of, shippable, stems_of
from ._training_sheet import draw_training

__all__ = [
    "INDEX",
    "Batch",
    "BatchLoader",
    "Pack",
    "PackedScene",
    "Picture",
    "Prefetcher",
    "Recipe",
    "Sample",
    "Sampler",
    "Scene",
    "border_of",
    "by_source",
    "compact",
    "draw_training",
    "expand",
    "filled",
    "has_splits",
    "make_pairs",
    "pack",
    "read_distance",
    "read_picture",
    "resized",
    "scenes_of",
    "shippable",
    "stems_of",
]
