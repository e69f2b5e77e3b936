"""What a tile costs on this machine: memory and time, measured once per model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from napari_restore.engine._budget import MIB
from napari_restore.engine._device import Device
from napari_restore.engine._device_memory import peak_of
from napari_restore.engine._own_thread import on_own_thread
from napari_restore.engine._probe import example_facts, example_input, kind_of
from napari_restore.engine._tile import is_out_of_memory
from napari_restore.errors import OutOfMemory
from napari_restore.models import RestorationModel

_SIDES = (256, 512)
_KNOWN: WeakKeyDictionary[RestorationModel, dict[tuple[str, int], Cost]] = WeakKeyDictionary()
_ALIKE: dict[tuple[Any, ...], Cost] = {}
"""By kind or name of a model, device and threads."""


@dataclass(frozen=True)
class Cost:
    """What fed pixels take of one worker: bytes at the peak, seconds."""

    fixed_bytes: float
    bytes_per_pixel: float
    seconds_per_pixel: float

    def tile_bytes(self, pixels: int) -> int:
        return int(self.fixed_bytes + self.bytes_per_pixel * pixels)

    def seconds(self, pixels: int) -> float:
        return self.seconds_per_pixel * pixels


def calibrate(
    model: RestorationModel, device: Device, threads: int, *, roughly: bool = False
) -> Cost:
    """The cost of `model` on `device` with `threads` threads; remembered in the process.

    Models of one kind cost the same; `roughly` also those of one name.
    Two sizes give a line for the memory; the larger one, run twice, the time.
    """
    known = _KNOWN.setdefault(model, {})
    key = (device.name, threads)
    kind = kind_of(model)
    alike: list[tuple[Any, ...]] = [(kind, *key)] if kind is not None else []
    alike += [(model.card.id, *key)] if roughly and kind is not None else []
    for shared in alike:
        if key not in known and shared in _ALIKE:
            known[key] = _ALIKE[shared]
    if key not in known:
        with told_if_too_full(device):
            known[key] = on_own_thread(lambda: _measure(model, device, threads), "calibrate")
        if kind is not None:
            _ALIKE[(kind, *key)] = _ALIKE[(model.card.id, *key)] = known[key]
    return known[key]


def _measure(model: RestorationModel, device: Device, threads: int) -> Cost:
    torch.set_num_threads(threads)
    model.to(device.torch)
    step = model.card.multiple_of
    sides = [-(-max(side, model.card.min_size) // step) * step for side in _SIDES]
    peaks = []
    seconds = 0.0
    with torch.inference_mode():
        for side in sides:
            x = example_input(model, side, side)
            facts = example_facts(model, x)
            peaks.append(peak_of(partial(model, x, facts), device))
            began = time.perf_counter()
            model(x, facts)
            device.wait()
            seconds = time.perf_counter() - began
    small, large = (side * side for side in sides)
    slope = max(0.0, (peaks[1] - peaks[0]) / (large - small))
    return Cost(max(0.0, peaks[0] - slope * small), slope, seconds / large)


@contextmanager
def told_if_too_full(device: Device) -> Iterator[None]:
    """A sentence in place of the error of a device that has no room to try a tile."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"There is not even room on {device.name} to try one tile.",
            "Close other programs that use it, or use --device cpu.",
        ) from error


SCRATCH_BYTES = 32 * MIB if sys.platform != "darwin" else 16 * MIB
"""What convolution libraries take beside the tensors (measured: 8–30 MiB per worker)."""
