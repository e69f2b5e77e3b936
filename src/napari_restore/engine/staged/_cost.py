"""Cost of the parts of a staged model on this machine, in bytes and seconds per tile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from napari_restore.engine.memory._device import Device
from napari_restore.engine.memory._device_memory import peak_of
from napari_restore.engine.planning._measurement_cache import MeasurementCache
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.engine.running._new_thread import on_new_thread
from napari_restore.engine.running._precision import computing
from napari_restore.models import StagedModel, placed_at

BATCHES = (1, 2)
"""Tiles at once in the two measurements, to which the memory is fitted linearly."""
BATCHES_CUDA = (1, 8)
GRID = 32
"""Side of the grid of tokens on which one layer is timed."""


@dataclass(frozen=True)
class PartCost:
    """Bytes and seconds of one part of a model for a batch of tiles."""

    fixed_bytes: float
    bytes_per_tile: float
    seconds_alone: float
    """Per tile, one at a time."""
    seconds_together: float
    """Per tile in the larger of the two measured batches."""

    def bytes(self, batch: int) -> int:
        return int(self.fixed_bytes + self.bytes_per_tile * batch)

    def seconds(self, batch: int) -> float:
        """Return the seconds per tile."""
        return self.seconds_alone if batch == 1 else self.seconds_together


@dataclass(frozen=True)
class StagedCost:
    """The three parts that work tile by tile, and the bottleneck."""

    encode: PartCost
    first: PartCost
    """Only the first stage, whose residual may be recomputed rather than kept."""
    decode: PartCost
    seconds_per_operation: float
    """Seconds of the bottleneck per multiplication."""


_KNOWN = MeasurementCache[StagedCost]()


def calibrate_staged(
    model: StagedModel, device: Device, threads: int, precision: str
) -> StagedCost:
    """Return the cost of `model` with `threads` threads; cached in the process, also by kind."""
    return _KNOWN.of(
        model,
        device,
        lambda: on_new_thread(lambda: _measure(model, device, threads, precision), "calibrate"),
        threads,
        precision,
    )


def _measure(model: StagedModel, device: Device, threads: int, precision: str) -> StagedCost:
    torch.set_num_threads(threads)
    model.to(device.torch)
    x = example_input(model, model.tile, model.tile)
    statistics = example_statistics(model, x)

    def many(tensor: Tensor, batch: int) -> Tensor:
        return tensor.expand(batch, *tensor.shape[1:]).contiguous()

    def view(batch: int) -> Tensor:
        tiles = many(x, batch)
        if not model.card.placed:
            return model.view(tiles, statistics)
        return model.view(tiles, placed_at(statistics, [(0, 0)] * batch, 1.0, x))

    with torch.inference_mode(), computing(device, precision):
        encoded, residuals = model.encode(view(1))
        tokens = model.with_margin(encoded[0])[None]

        def decode(batch: int) -> None:
            kept = tuple(many(residual, batch) for residual in residuals)
            model.decode(many(tokens, batch), many(encoded, batch), kept, view(batch))

        return StagedCost(
            _part(lambda batch: model.encode(view(batch)), device),
            _part(lambda batch: model.encode_first(view(batch)), device),
            _part(decode, device),
            _seconds_per_operation(model, device),
        )


def _part(call: Callable[[int], object], device: Device) -> PartCost:
    batches = BATCHES_CUDA if device.is_cuda else BATCHES
    peaks, seconds = [], []
    for batch in batches:
        peaks.append(peak_of(partial(call, batch), device))
        began = time.perf_counter()
        call(batch)
        device.wait()
        seconds.append((time.perf_counter() - began) / batch)
    slope = max(0.0, (peaks[1] - peaks[0]) / (batches[1] - batches[0]))
    return PartCost(max(0.0, peaks[0] - slope * batches[0]), slope, *seconds)


def _seconds_per_operation(model: StagedModel, device: Device) -> float:
    """Return the seconds of one layer on a small grid, per multiplication; the layers are alike."""
    # Tokens that differ: with equal ones few experts are active.
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(GRID, GRID, model.width, generator=generator).to(device.torch)
    model.bottleneck_layer(0, grid.clone())
    device.wait()
    began = time.perf_counter()
    model.bottleneck_layer(0, grid)
    device.wait()
    seconds = time.perf_counter() - began
    return seconds / model.bottleneck_operations(0, GRID, GRID)
