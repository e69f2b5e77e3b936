"""The arrays of one batch, and how samples are written into them."""

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
    """Return shape and dtype of the arrays of a batch by name, those of `Batch`."""
    n, side = recipe.batch, recipe.size
    real, truth = np.dtype(np.float32), np.dtype(np.bool_)
    return {
        "hazy": Layout((n, recipe.planes, side, side), real),
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
    """Write batch number `step` into `arrays`, each as in `layouts`; return the names of the scenes."""
    names = []
    sampler = sampler.with_recipe(sampler.recipe.for_batch(seed, step))
    for number in range(sampler.recipe.batch):
        sample = sampler.sample(np.random.default_rng((seed, step, number)))
        for name, values in (("hazy", sample.hazy), ("clear", sample.clear)):
            for channel in range(values.shape[2]):
                # Twice as fast as one transposition.
                arrays[name][number, channel] = values[..., channel]
        arrays["valid"][number, 0] = sample.valid
        arrays["is_clear"][number] = sample.haze is None
        haze = sample.haze
        arrays["depth"][number, 0] = 0 if haze is None else haze.depth
        arrays["airlight"][number] = 1 if haze is None else haze.airlight
        arrays["exponent"][number] = 0 if haze is None else haze.exponent
        names.append(sample.name)
    return tuple(names)


def empty(recipe: Recipe) -> Arrays:
    """Return uninitialised arrays for one batch."""
    return {name: np.empty(item.shape, item.dtype) for name, item in layouts(recipe).items()}


def views(buffer: Any, start: int, recipe: Recipe) -> Arrays:
    """Return the arrays of a batch of one size as views of a buffer, from byte `start` on."""
    offset, arrays = start, {}
    for name, item in layouts(recipe).items():
        count = int(np.prod(item.shape))
        arrays[name] = np.frombuffer(buffer, item.dtype, count, offset).reshape(item.shape)
        offset += _aligned(item.bytes)
    return arrays


def slot_bytes(recipe: Recipe) -> int:
    """Return the bytes of one batch in a buffer; of the largest where there are several sizes."""
    return max(
        sum(_aligned(item.bytes) for item in layouts(one).values()) for one in recipe.by_size()
    )


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
