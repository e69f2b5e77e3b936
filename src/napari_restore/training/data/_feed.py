"""Batches in order, made ahead by other processes, the same whatever their number."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from napari_restore.errors import BadParameter
from napari_restore.training.data._ahead import Ahead
from napari_restore.training.data._arrays import Arrays, empty, fill
from napari_restore.training.data._pack import Pack, pack
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.data._sample import Sampler
from napari_restore.training.data._scenes import Scene


@dataclass(frozen=True)
class Batch:
    """N crops of one size, on the CPU; floats are float32, colours display values 0 to 1."""

    hazy: torch.Tensor
    """(N, 3, h, w)."""
    clear: torch.Tensor
    """(N, 3, h, w)."""
    depth: torch.Tensor
    """(N, 1, h, w) optical depth at 550 nm that was applied; 0 where `is_clear`."""
    airlight: torch.Tensor
    """(N, 3); without meaning where `is_clear`."""
    exponent: torch.Tensor
    """(N,) of Ångström's law; without meaning where `is_clear`."""
    valid: torch.Tensor
    """(N, 1, h, w) bool; False: no picture there, not to be learned from."""
    is_clear: torch.Tensor
    """(N,) bool: no haze was added."""
    names: tuple[str, ...]
    """Of the scenes."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        tensors: dict[str, Any] = {
            item.name: value.to(device, non_blocking=non_blocking)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), torch.Tensor)
        }
        return replace(self, **tensors)


class Feed:
    """An endless sequence of batches; batch number `step` follows from scenes, recipe and seed.

    Parameters
    ----------
    scenes
        To be packed into a temporary folder that goes with the feed, or a `Pack`.
    recipe
        How crops are made.
    seed
        Any whole number from 0.
    workers
        Processes that make batches ahead; 0: none, each is made when it is asked for.
    """

    def __init__(
        self, scenes: Sequence[Scene] | Pack, recipe: Recipe, seed: int, workers: int = 0
    ) -> None:
        if seed < 0 or workers < 0:
            raise BadParameter("Seed and workers are at least 0.", "Give other numbers.")
        self._remove: Callable[[], object] = lambda: None
        if not isinstance(scenes, Pack):
            folder = Path(tempfile.mkdtemp(prefix="napari-restore-pack-"))
            # Also where nobody closes the feed.
            self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            scenes = pack(scenes, folder)
        self.pack: Pack = scenes
        self.recipe, self.seed, self.workers = recipe, seed, workers
        self._sampler = Sampler(scenes, recipe)

    def close(self) -> None:
        """Remove what was packed for this feed only; it makes no batch any more."""
        self._remove()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of scenes that are too small for the recipe's crops."""
        return self._sampler.left_out

    def batch(self, step: int) -> Batch:
        """Batch number `step`, made here and now."""
        arrays = empty(self.recipe)
        return _batch(arrays, fill(arrays, self._sampler, self.seed, step))

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Batches from number `start_step` on; closing the iterator ends its processes."""
        if not self.workers:
            step = start_step
            while True:
                yield self.batch(step)
                step += 1
        with Ahead(self.pack, self.recipe, self.seed, self.workers, start_step) as ahead:
            while True:
                yield _batch(*ahead.next())


def _batch(arrays: Arrays, names: tuple[str, ...]) -> Batch:
    return Batch(**{name: torch.from_numpy(values) for name, values in arrays.items()}, names=names)
