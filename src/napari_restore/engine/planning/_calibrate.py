"""Cost of a tile on this machine, in bytes and seconds, measured once per model."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from functools import partial

import torch

from napari_restore._heap import freed_memory_kept
from napari_restore.engine.machine._budget import MIB
from napari_restore.engine.machine._device import Device
from napari_restore.engine.machine._device_memory import peak_of
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.planning._measurement_cache import MeasurementCache
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.images import Image
from napari_restore.models import RestorationModel

_SIDES = (256, 512)
_SMALL_SIDES = (128, 256)
"""Those of a model of the whole image, whose memory may grow as the fourth power."""


@dataclass(frozen=True)
class Cost:
    """Cost of input pixels for one worker: bytes at the peak, seconds."""

    fixed_bytes: float
    bytes_per_pixel: float
    seconds_per_pixel: float

    def tile_bytes(self, pixels: int) -> int:
        return int(self.fixed_bytes + self.bytes_per_pixel * pixels)

    def seconds(self, pixels: int) -> float:
        return self.seconds_per_pixel * pixels


_KNOWN = MeasurementCache(Cost, timed=True)


def calibrate(
    model: RestorationModel, device: Device, threads: int, *, roughly: bool = False
) -> Cost:
    """Return the cost of `model` on `device` with `threads` threads; cached.

    Models of one kind cost the same; `roughly` also those of one name. The memory is fitted
    linearly to two sizes; the larger one, run twice, gives the time.
    """
    return _KNOWN.of(
        model,
        device,
        lambda: on_new_thread(lambda: _measure(model, device, threads), "calibrate"),
        threads,
        _SIDES,
        roughly=roughly,
    )


def calibrate_whole(model: RestorationModel, device: Device, threads: int, image: Image) -> Cost:
    """Return the cost of `model` in one pass over `image`; cached.

    What grows faster than the number of pixels, such as attention, is extrapolated so.
    """
    pixels = image.height * image.width
    return _KNOWN.of(
        model,
        device,
        lambda: on_new_thread(lambda: _measure(model, device, threads, pixels), "calibrate"),
        threads,
        "whole",
        pixels,
    )


def _measure(
    model: RestorationModel, device: Device, threads: int, extrapolated: int | None = None
) -> Cost:
    torch.set_num_threads(threads)
    model.to(device.torch)
    step = model.card.multiple_of
    smaller, larger = _SIDES if extrapolated is None else _SMALL_SIDES
    least = max(smaller, model.card.min_size)
    # Two sizes, also for a model with a large least size.
    sides = [-(-side // step) * step for side in (least, max(larger, least + least // 2))]
    peaks = []
    seconds = 0.0
    with torch.inference_mode(), freed_memory_kept():
        for side in sides:
            x = example_input(model, side, side)
            statistics = example_statistics(model, x)
            peaks.append(peak_of(partial(model, x, statistics), device))
            began = time.perf_counter()
            model(x, statistics)
            device.wait()
            seconds = time.perf_counter() - began
    small, large = (side * side for side in sides)
    slope = max(0.0, (peaks[1] - peaks[0]) / (large - small))
    if extrapolated is not None and slope * small > peaks[0] > 0:
        power = math.log(peaks[1] / peaks[0]) / math.log(large / small)
        slope = peaks[1] / large * max(1.0, extrapolated / large) ** (power - 1)
    return Cost(max(0.0, peaks[0] - slope * small), slope, seconds / large)


SCRATCH_BYTES = 32 * MIB if sys.platform != "darwin" else 16 * MIB
"""Bytes that convolution libraries use beside the tensors (measured: 8–30 MiB per worker)."""
