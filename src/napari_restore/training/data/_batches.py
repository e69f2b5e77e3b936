"""Batches in order, prefetched by worker processes and independent of their number."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from napari_restore.errors import BadParameter
from napari_restore.training.data._arrays import Arrays, empty, fill
from napari_restore.training.data._pack import Pack
from napari_restore.training.data._prefetch import Prefetcher
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.data._sample import Sampler


@dataclass(frozen=True)
class Batch:
    """N crops of one size, on the CPU; floats are float32, colours display values 0 to 1."""

    hazy: torch.Tensor
    """(N, 3, h, w); of brackets (N, 9, h, w), dark to bright."""
    clear: torch.Tensor
    """(N, 3, h, w)."""
    depth: torch.Tensor
    """(N, 1, h, w) applied optical depth at 550 nm; 0 where `is_clear`."""
    airlight: torch.Tensor
    """(N, 3); undefined where `is_clear`."""
    exponent: torch.Tensor
    """(N,) exponent of Ångström's law; undefined where `is_clear`."""
    valid: torch.Tensor
    """(N, 1, h, w) bool; False for pixels without data, excluded from losses."""
    is_clear: torch.Tensor
    """(N,) bool: no haze was added."""
    names: tuple[str, ...]
    """Names of the scenes."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        tensors: dict[str, Any] = {
            item.name: value.to(device, non_blocking=non_blocking)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), torch.Tensor)
        }
        return replace(self, **tensors)


class BatchLoader:
    """An endless sequence of batches; batch `step` is a function of pack, recipe and seed.

    Parameters
    ----------
    packed
        The scenes.
    recipe
        Settings of the crops.
    seed
        A whole number from 0.
    workers
        Worker processes that prefetch batches; 0: batches are made on request.
    """

    def __init__(self, packed: Pack, recipe: Recipe, seed: int, workers: int = 0) -> None:
        if seed < 0 or workers < 0:
            raise BadParameter("Seed and workers are at least 0.", "Give other numbers.")
        self.pack, self.recipe, self.seed, self.workers = packed, recipe, seed, workers
        self._sampler = Sampler(packed, recipe)

    def batch(self, step: int) -> Batch:
        """Return batch `step`, made in this process."""
        arrays = empty(self.recipe.for_batch(self.seed, step))
        return _batch(arrays, fill(arrays, self._sampler, self.seed, step))

    def batches(self, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield batches from `start_step` on; closing the iterator ends its workers."""
        if not self.workers:
            step = start_step
            while True:
                yield self.batch(step)
                step += 1
        with Prefetcher(self.pack, self.recipe, self.seed, self.workers, start_step) as ahead:
            while True:
                yield _batch(*ahead.next())


def _batch(arrays: Arrays, names: tuple[str, ...]) -> Batch:
    return Batch(**{name: torch.from_numpy(values) for name, values in arrays.items()}, names=names)
