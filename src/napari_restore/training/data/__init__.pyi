from ._batches import Batch, BatchLoader
from ._pack import Pack, compact, expand, pack
from ._pairs import make_pairs
from ._pictures import Picture, read_picture
from ._recipe import Recipe
from ._sample import Sample, Sampler
from ._scenes import Scene, scenes_of, shippable
from ._training_sheet import draw_training

__all__ = [
    "Batch",
    "BatchLoader",
    "Pack",
    "Picture",
    "Recipe",
    "Sample",
    "Sampler",
    "Scene",
    "compact",
    "draw_training",
    "expand",
    "make_pairs",
    "pack",
    "read_picture",
    "scenes_of",
    "shippable",
]
