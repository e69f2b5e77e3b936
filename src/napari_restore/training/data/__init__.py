"""Clear pictures, and the hazy crops and pairs that are made of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.training.data._compact import compact, expand
    from napari_restore.training.data._feed import Batch, Feed
    from napari_restore.training.data._pack import Pack, pack
    from napari_restore.training.data._pairs import PairOptions, make_pairs
    from napari_restore.training.data._pictures import Picture, read_picture
    from napari_restore.training.data._recipe import Recipe
    from napari_restore.training.data._sample import Sample, Sampler
    from napari_restore.training.data._scenes import Scene, scenes_of, shippable
    from napari_restore.training.data._training_sheet import draw_training

_HOMES = {
    "_compact": ("compact", "expand"),
    "_feed": ("Batch", "Feed"),
    "_pack": ("Pack", "pack"),
    "_pairs": ("PairOptions", "make_pairs"),
    "_pictures": ("Picture", "read_picture"),
    "_recipe": ("Recipe",),
    "_sample": ("Sample", "Sampler"),
    "_scenes": ("Scene", "scenes_of", "shippable"),
    "_training_sheet": ("draw_training",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Feed",
    "Pack",
    "PairOptions",
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


def __getattr__(name: str) -> Any:
    # Loaded on first use: a machine that only trains need not have what reads images.
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
