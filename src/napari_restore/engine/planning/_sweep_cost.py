"""Cost of the sweeps of a model on this machine, in bytes and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from napari_restore._heap import freed_memory_kept
from napari_restore.engine.machine._device import Device
from napari_restore.engine.machine._device_memory import peak_of
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.machine._precision import computing
from napari_restore.engine.planning._groups import is_shallow
from napari_restore.engine.planning._measurement_cache import MeasurementCache
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.models import (
    Statistics,
    Sums,
    Sweep,
    SweepInput,
    SweptModel,
    WholeStep,
    placed_at,
)

T = TypeVar("T")
BATCHES = (1, 2)
"""Tiles at once in the two measurements, to which the memory is fitted linearly."""
BATCHES_CUDA = (1, 8)
SIDES = (128, 256)
"""Sides in pixels of the two measurements of a model that takes tiles of any size."""
SIDES_OF_AN_IMAGE = 16
"""Sides of a tile along one of the image that it is taken to lie in."""
GRID = 32
"""Side of the grid of cells on which one layer of a whole step is timed."""


@dataclass(frozen=True)
class PartCost:
    """Bytes and seconds of one sweep, by the pixels of a batch with its halo."""

    fixed_bytes: float
    bytes_per_pixel: float
    seconds_alone: float
    """Per pixel, one tile at a time."""
    seconds_together: float
    """Per pixel in the larger of the two measurements."""

    def bytes(self, pixels: int) -> int:
        return int(self.fixed_bytes + self.bytes_per_pixel * pixels)

    def seconds(self, pixels: int, batch: int) -> float:
        """Return the seconds of a tile in a batch of so many."""
        return pixels * (self.seconds_alone if batch == 1 else self.seconds_together)


@dataclass(frozen=True)
class SettlingCost:
    """What is settled once for all tiles, however many they are."""

    peak_bytes: float = 0.0
    seconds: float = 0.0
    settled_bytes: int = 0
    """Of the statistics that stay."""


@dataclass(frozen=True)
class SweepCosts:
    """Costs by the number of the step."""

    sweeps: dict[int, PartCost]
    first: dict[int, PartCost]
    """Of sweeps that leave several maps of a tile's own pixels: the first map alone."""
    seconds_per_operation: float = 0.0
    """Seconds of a whole step per multiplication."""
    settling: Mapping[int, SettlingCost] = field(default_factory=dict)
    """Of sweeps that count."""

    @property
    def settling_bytes(self) -> int:
        """Most bytes while a sweep settles, beside what earlier ones settled."""
        return int(max((each.peak_bytes for each in self.settling.values()), default=0))

    @property
    def settled_bytes(self) -> int:
        """Bytes of all that is settled."""
        return sum(each.settled_bytes for each in self.settling.values())


_KNOWN = MeasurementCache(SweepCosts, timed=True)


def calibrate_sweeps(model: SweptModel, device: Device, threads: int, precision: str) -> SweepCosts:
    """Return the cost of `model` with `threads` threads; cached, also by kind."""
    return _KNOWN.of(
        model,
        device,
        lambda: on_new_thread(lambda: _measure(model, device, threads, precision), "calibrate"),
        threads,
        precision,
        SIDES,
    )


@dataclass(frozen=True)
class _Size:
    side: int
    batch: int

    @property
    def pixels(self) -> int:
        return self.batch * self.side**2


def _measure(model: SweptModel, device: Device, threads: int, precision: str) -> SweepCosts:
    torch.set_num_threads(threads)
    model.to(device.torch)
    batches = BATCHES_CUDA if device.is_cuda else BATCHES
    if model.tile is not None:
        sizes = [_Size(model.tile, batch) for batch in batches]
    else:
        step = model.multiple
        sides = [-(-max(side, model.card.min_size) // step) * step for side in SIDES]
        if sides[0] == sides[1]:
            sides[1] += step
        sizes = [_Size(side, 1) for side in sides]
    with torch.inference_mode(), computing(device, precision), freed_memory_kept():
        measured = [_Sweeps(model, device, size) for size in sizes]
        for each in measured:
            each.run()
        one, other = measured
        return SweepCosts(
            {number: _part(one, other, number) for number in one.peaks},
            {number: _part(one, other, number, first=True) for number in one.first_peaks},
            _seconds_per_operation(model, device),
            one.settling,
        )


class _Sweeps:
    """The sweeps run one after another on one synthetic tile, or a batch of it."""

    def __init__(self, model: SweptModel, device: Device, size: _Size) -> None:
        self._model, self._device, self.size = model, device, size
        self.peaks: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        self.first_peaks: dict[int, float] = {}
        self.first_seconds: dict[int, float] = {}
        self.settling: dict[int, SettlingCost] = {}

    def run(self) -> None:
        model, batch = self._model, self.size.batch
        x = example_input(model, self.size.side, self.size.side)
        statistics = example_statistics(model, x)
        if model.card.placed:
            # A tile of an image as they are: what it counts may follow from its share of that.
            size = (SIDES_OF_AN_IMAGE * self.size.side,) * 2
            statistics = placed_at(statistics, [(0, 0)] * batch, 1.0, x, size)
        tiles = _many(x, batch)
        maps: dict[str, Tensor] = {}
        for number, step in enumerate(model.steps()):
            if isinstance(step, WholeStep):
                # As if the step had left all as it was: its cost is measured elsewhere.
                maps[step.writes.name] = torch.stack(
                    [step.with_margin(one) for one in maps[step.reads.name]]
                )
                continue
            statistics = self._sweep(number, step, tiles, maps, statistics)

    def _sweep(
        self,
        number: int,
        step: Sweep,
        tiles: Tensor,
        maps: dict[str, Tensor],
        statistics: Statistics,
    ) -> Statistics:
        """Measure one sweep, and add what it leaves to `maps`; returns also what it settles."""
        counts = step.counts

        def call(wanted: frozenset[str] | None = None) -> tuple[dict[str, Tensor], Sums]:
            # Copies: a run stacks the pixels and maps of its tiles.
            view = self._model.view(tiles.clone(), statistics) if step.sees_image else None
            read = {name: maps[name].clone() for name in step.reads}
            outputs = dict(step.run(SweepInput(view, read, statistics, wanted)))
            if counts is None or wanted is not None:
                return outputs, {}
            features = {each.name: outputs[each.name][:1] for each in counts.features}
            return outputs, counts.count(features, None)

        if len(step.writes) > 1 and is_shallow(step):
            first = frozenset([step.writes[0].name])
            measured = self._timed(lambda: call(first))
            self.first_peaks[number], self.first_seconds[number], _ = measured
        self.peaks[number], self.seconds[number], (outputs, sums) = self._timed(call)
        maps |= {each.name: outputs[each.name] for each in step.writes}
        if counts is None:
            return statistics
        peak, seconds, settled = self._timed(lambda: counts.settle(sums, statistics))
        size = sum(value.nbytes for value in settled.values())
        self.settling[number] = SettlingCost(peak, seconds * self.size.pixels, size)
        return {**statistics, **settled}

    def _timed(self, call: Callable[[], T]) -> tuple[float, float, T]:
        """Return the peak bytes of a call, the seconds per pixel and the result of another."""
        peak = peak_of(call, self._device)
        began = time.perf_counter()
        result = call()
        self._device.wait()
        return peak, (time.perf_counter() - began) / self.size.pixels, result


def _part(one: _Sweeps, other: _Sweeps, number: int, first: bool = False) -> PartCost:
    peaks = [(each.first_peaks if first else each.peaks)[number] for each in (one, other)]
    seconds = [(each.first_seconds if first else each.seconds)[number] for each in (one, other)]
    pixels = [each.size.pixels for each in (one, other)]
    slope = max(0.0, (peaks[1] - peaks[0]) / (pixels[1] - pixels[0]))
    return PartCost(max(0.0, peaks[0] - slope * pixels[0]), slope, *seconds)


def _many(tensor: Tensor, batch: int) -> Tensor:
    return tensor.expand(batch, *tensor.shape[1:]).contiguous()


def _seconds_per_operation(model: SweptModel, device: Device) -> float:
    """Return the seconds of one layer on a small grid, per multiplication; the layers are alike."""
    whole = [step for step in model.steps() if isinstance(step, WholeStep)]
    if not whole:
        return 0.0
    step = whole[0]
    # Cells that differ: with equal ones few experts are active.
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(GRID, GRID, step.reads.channels, generator=generator).to(device.torch)
    step.layer(0, grid.clone())
    device.wait()
    began = time.perf_counter()
    step.layer(0, grid)
    device.wait()
    return (time.perf_counter() - began) / step.operations(0, GRID, GRID)
