"""Modules that are tried, and are afterwards as if nobody had called them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
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
    """Call modules in the block; what they and the random numbers hold stays. Raises `BadModel`."""
    # Restored are attributes, lists, dictionaries, sets, and tensors of up to `SMALL` values, the
    # states of torch, numpy and random, and torch's threads, of which the block has `threads`. A
    # module that writes to larger tensors is refused. What C extensions and files keep is not seen.
    state = ModuleState(modules)
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


class Attributes:
    """Attributes of modules, lists, dictionaries and sets, as they are: of modules only the first level."""

    def __init__(self, containers: Iterable[Any]) -> None:
        self._known = [(each, copy.copy(each)) for each in containers]

    def restore(self) -> bool:
        """Let them be as they were; return whether they were not."""
        written = False
        for now, then in self._known:
            if _parts_of(now) == _parts_of(then):
                continue
            written = True
            if isinstance(now, list):
                now[:] = then
                continue
            # Not cleared first: another thread may look up what stays.
            for name in [each for each in now if each not in then]:
                now.pop(name) if isinstance(now, dict) else now.remove(name)
            now.update(then)
        return written


def _parts_of(container: Any) -> Any:
    if isinstance(container, dict):
        return {name: id(value) for name, value in container.items()}
    return container if isinstance(container, set) else [*map(id, container)]


class ModuleState:
    """Containers and tensors that modules and their parts hold, as they are."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._tensors: list[tuple[Tensor, int | None, Tensor | None]] = []
        waiting: list[Any] = [vars(part) for module in modules for part in parts_of(module)]
        containers, seen = [], set[int]()
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                kept = value.detach().clone() if value.numel() <= SMALL else None
                self._tensors.append((value, _version(value), kept))
            elif isinstance(value, (dict, list, set, tuple)):
                containers += [] if isinstance(value, tuple) else [value]
                waiting += value.values() if isinstance(value, dict) else value
        self._attributes = Attributes(containers)

    def restore(self) -> bool:
        """Let them be as they were; return whether they were not. Raises `BadModel`; see `undisturbed`."""
        written = self._attributes.restore()
        for tensor, version, kept in self._tensors:
            if version is not None and _version(tensor) == version:
                continue
            if kept is not None:
                written |= version is not None
                with torch.no_grad():
                    tensor.copy_(kept)
            elif version is not None:
                raise BadModel(
                    f"The model changes {tensor.numel()} values of its own at every call.",
                    "Let the network leave its weights and buffers as they are.",
                )
        return written


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return a module and those within it whose attributes are Python's."""
    return [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]


def _version(tensor: Tensor) -> int | None:
    """Return what counts the writes to a tensor; None where nothing counts."""
    return None if tensor.is_inference() else tensor._version
