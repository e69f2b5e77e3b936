"""The arrays of one batch: what they are, and how they are made of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore.training.data._recipe import Recipe
from napari_restore.training.data._sample import Sampler

Arrays = dict[str, npt.NDArray[Any]]


class Layout(NamedTuple):
    """One array of a batch."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def layouts(recipe: Recipe) -> dict[str, Layout]:
    """Name → shape and dtype of the arrays of a batch, those of `Batch`."""
    n, side = recipe.batch, recipe.size
    real, truth = np.dtype(np.float32), np.dtype(np.bool_)
    return {
        "hazy": Layout((n, 3, side, side), real),
        "clear": Layout((n, 3, side, side), real),
        "depth": Layout((n, 1, side, side), real),
        "airlight": Layout((n, 3), real),
        "exponent": Layout((n,), real),
        "valid": Layout((n, 1, side, side), truth),
        "is_clear": Layout((n,), truth),
    }


def fill(
    arrays: Mapping[str, npt.NDArray[Any]], sampler: Sampler, seed: int, step: int
) -> tuple[str, ...]:
    """Write batch number `step` into `arrays`, each as in `layouts`; returns the scenes' names."""
    names = []
    for number in range(sampler.recipe.batch):
        made = sampler.sample(np.random.default_rng((seed, step, number)))
        for channel in range(3):
            # Twice as fast as transposing the whole.
            arrays["hazy"][number, channel] = made.hazy[..., channel]
            arrays["clear"][number, channel] = made.clear[..., channel]
        arrays["valid"][number, 0] = made.valid
        arrays["is_clear"][number] = made.haze is None
        haze = made.haze
        arrays["depth"][number, 0] = 0 if haze is None else haze.depth
        arrays["airlight"][number] = 1 if haze is None else haze.airlight
        arrays["exponent"][number] = 0 if haze is None else haze.exponent
        names.append(made.name)
    return tuple(names)


def empty(recipe: Recipe) -> Arrays:
    """Arrays for one batch."""
    return {name: np.empty(item.shape, item.dtype) for name, item in layouts(recipe).items()}


def views(buffer: Any, recipe: Recipe, slot: int) -> Arrays:
    """The arrays of a batch as views of place number `slot` in a buffer of bytes."""
    offset, found = slot * slot_bytes(recipe), {}
    for name, item in layouts(recipe).items():
        count = int(np.prod(item.shape))
        found[name] = np.frombuffer(buffer, item.dtype, count, offset).reshape(item.shape)
        offset += _aligned(item.bytes)
    return found


def slot_bytes(recipe: Recipe) -> int:
    """Bytes that one batch takes up in a buffer."""
    return sum(_aligned(item.bytes) for item in layouts(recipe).values())


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
