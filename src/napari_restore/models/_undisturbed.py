"""Modules that are tried, and are afterwards as if nobody had called them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel

SMALL = 1 << 16
"""Values of a tensor that is copied; a larger one must not be written."""


@contextmanager
def undisturbed(*modules: nn.Module, threads: int | None = None) -> Iterator[None]:
    """Call modules in the block; what they and the generators of random numbers hold stays as it was.

    Restored are attributes, lists, dictionaries, sets, and tensors of up to `SMALL` values, the states of
    torch, numpy and random, and torch's threads, of which the block has `threads`. Raises `BadModel` where
    a module writes to larger tensors. What C extensions and files keep is not seen.
    """
    parts = {part: None for module in modules for part in module.modules()}
    state = _State(vars(p) for p in parts if not isinstance(p, torch.jit.ScriptModule))
    numbers, own, count = np.random.get_state(), random.getstate(), torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(own)
        if threads:
            torch.set_num_threads(count)
        state.restore()


class _State:
    """Containers and tensors, as they are."""

    def __init__(self, owned: Any) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, int | None, Tensor | None]] = []
        waiting, seen = list(owned), set[int]()
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                kept = value.detach().clone() if value.numel() <= SMALL else None
                self._tensors.append((value, _version(value), kept))
            elif isinstance(value, (dict, list, set, tuple)):
                if not isinstance(value, tuple):
                    self._containers.append((value, copy.copy(value)))
                waiting += value.values() if isinstance(value, dict) else value

    def restore(self) -> None:
        for now, then in self._containers:
            if isinstance(now, dict):
                for name in [key for key in now if key not in then]:
                    del now[name]
                now.update(then)
            elif [*map(id, now)] != [*map(id, then)]:
                now.clear()
                getattr(now, "update" if isinstance(now, set) else "extend")(then)
        for tensor, version, kept in self._tensors:
            if version is not None and _version(tensor) == version:
                continue
            if kept is not None:
                with torch.no_grad():
                    tensor.copy_(kept)
            elif version is not None:
                raise BadModel(
                    f"The model changes {tensor.numel()} values of its own at every call.",
                    "Let the network leave its weights and buffers as they are.",
                )


def _version(tensor: Tensor) -> int | None:
    """Return what counts the writes to a tensor; None where nothing counts."""
    return None if tensor.is_inference() else tensor._version
