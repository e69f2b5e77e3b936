"""Cost of a model on this machine, in bytes and seconds, measured once on synthetic tiles."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_restore._heap import freed_memory_kept
from napari_restore.engine._region import Region
from napari_restore.engine.machine.budget import MIB
from napari_restore.engine.machine.device import Device, cores
from napari_restore.engine.machine.device_memory import peak_of
from napari_restore.engine.machine.failures import clear_frames, is_out_of_memory
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.planning.measurements import MeasurementCache
from napari_restore.engine.planning.probe import (
    example_context,
    example_input,
    example_statistics,
    largest_side,
)
from napari_restore.engine.statistics.context import overview_level
from napari_restore.images import Image
from napari_restore.models import (
    Context,
    RestorationModel,
    Statistics,
    Sums,
    Sweep,
    SweepInput,
    SweptModel,
    WholeStep,
    overview_factor,
    placed_at,
)

T = TypeVar("T")
SIDES = (512, 768)
"""Sides in pixels of the two measurements of a model of tiles: both take more than one strip of a
model that works strip by strip, whose memory then does not grow with the tile."""
SIDES_OF_LITTLE = (256, 512)
"""The same where memory is too small for these."""
SIDES_OF_WHOLE = ((128, 256), (64, 128), (32, 64))
"""Those of a model of the whole image, whose memory may grow as the fourth power, the first that fit."""
SIDES_OF_SWEEPS = (128, 256)
"""Those of a model of sweeps over tiles of any size."""
BATCHES = (1, 2)
"""Tiles at once in the two measurements of sweeps over tiles of one size."""
BATCHES_CUDA = (1, 8)
SIDES_OF_AN_IMAGE = 16
"""Sides of a tile along one of the image that it is taken to lie in."""
COARSEST = 4
"""Pixels per pixel of an overview from which on what tiles take of it hardly counts."""
GRID = 32
"""Side of the grid of cells on which one layer of a whole step is timed."""
STEP = 256
"""Pixels to whose multiples the sides of an overview are rounded up, so that images of like
sizes share a measurement."""
HOST_BYTES_PER_VALUE = 24
"""Bytes per value, beside the tensors, while an overview is brought to model range: twice
float64, twice float32."""
SCRATCH_BYTES = 32 * MIB if sys.platform != "darwin" else 16 * MIB
"""Bytes that convolution libraries use beside the tensors (measured: 8–30 MiB per worker)."""


@dataclass(frozen=True)
class Bytes:
    """Bytes at the peak, by pixels."""

    fixed_bytes: float
    bytes_per_pixel: float

    def bytes(self, pixels: int) -> int:
        return int(self.fixed_bytes + self.bytes_per_pixel * pixels)

    @classmethod
    def fitted(cls, pixels: tuple[int, int], peaks: tuple[float, float], *more: float) -> Self:
        """Return what is fitted linearly to two measurements; `more` are further fields."""
        slope = max(0.0, (peaks[1] - peaks[0]) / (pixels[1] - pixels[0]))
        return cls(max(0.0, peaks[0] - slope * pixels[0]), slope, *more)


@dataclass(frozen=True)
class Cost(Bytes):
    """Bytes at the peak and seconds, by the pixels of a batch of tiles with their halos."""

    seconds_alone: float
    """Per pixel, one tile at a time."""
    seconds_together: float
    """Per pixel in the larger of the two measurements."""

    def seconds(self, pixels: int, batch: int = 1) -> float:
        """Return the seconds of a tile in a batch of so many."""
        return pixels * (self.seconds_alone if batch == 1 else self.seconds_together)


def _timed(call: Callable[[], T], device: Device, pixels: int) -> tuple[float, float, T]:
    """Return the peak bytes of a call, the seconds per pixel and the result of another."""
    # On the processor these are seconds of each of its threads: what other programs take meanwhile
    # must not change the tiles.
    peak = peak_of(call, device)
    if device.is_accelerator:
        began = time.perf_counter()
        result = call()
        device.wait()
        return peak, (time.perf_counter() - began) / pixels, result
    here, everywhere, threads = time.thread_time(), time.process_time(), torch.get_num_threads()
    result = call()
    seconds = time.thread_time() - here
    if threads > 1:
        # This one may have waited for the others.
        seconds = max(seconds, (time.process_time() - everywhere) / threads)
    return peak, seconds / pixels, result


# -- tiles -----------------------------------------------------------------------------

_OF_TILES = MeasurementCache(Cost, timed=True)


def calibrate(
    model: RestorationModel,
    device: Device,
    threads: int,
    *,
    whole: int | None = None,
    coarser: int = 1,
    roughly: bool = False,
) -> Cost:
    """Return the cost of `model` on `device` with `threads` threads; cached.

    Models of one kind cost the same; `roughly` also those of one name. The memory is fitted
    linearly to two sizes; the larger one, run twice, gives the time. For one pass over an image of
    `whole` pixels, what grows faster than their number, such as attention, is whole so. A pixel of
    the overview is `coarser` than one of the image, which matters to a position-dependent model.
    """
    coarser = min(coarser, COARSEST) if model.card.placed and whole is None else 1
    about = (SIDES, coarser) if whole is None else ("whole", whole)
    return _OF_TILES.of(
        model,
        device,
        lambda: _measured_that_fits(model, device, threads, whole, coarser),
        threads,
        *about,
        roughly=roughly,
    )


def _measured_that_fits(
    model: RestorationModel, device: Device, threads: int, whole: int | None, coarser: int
) -> Cost:
    """Return the cost measured on the usual sides or, where memory is too small for them, on smaller."""
    *tried, least = (SIDES, SIDES_OF_LITTLE) if whole is None else SIDES_OF_WHOLE
    for sides in tried:
        try:
            # Where each pixel attends to each, all memory of the machine may go before that fails.
            with nullcontext() if whole is None else device.confined():
                return _measured(model, device, threads, whole, coarser, sides)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error)
    with device.confined():
        return _measured(model, device, threads, whole, coarser, least)


def _measured(
    model: RestorationModel,
    device: Device,
    threads: int,
    whole: int | None,
    coarser: int,
    usual: tuple[int, int],
) -> Cost:
    torch.set_num_threads(threads)
    step = model.card.multiple_of
    smaller, larger = usual
    least = max(smaller, model.card.min_size)
    # Two sizes, also for a model with a large least size.
    sides = [-(-side // step) * step for side in (least, max(larger, least + least // 2))]
    widest = largest_side(model) // step * step
    if sides[1] > widest > step:
        # Of many bands less is tried, if that is enough for the model.
        fewer = [max(step, 2 * widest // 3 // step * step), widest]
        sides = fewer if fewer[0] >= model.card.min_size else sides
    calls: list[Callable[[], Tensor]] = []
    with torch.inference_mode(), freed_memory_kept():
        for side in sides:
            x = example_input(model, side, side)
            statistics = example_statistics(model, x)
            if model.card.placed:
                statistics = placed_at(statistics, [(0, 0)], 1 / coarser, x)
            calls.append(partial(model, x, statistics))
        small, large = (side * side for side in sides)
        less = peak_of(calls[0], device)
        most, seconds, _ = _timed(calls[1], device, large)
    cost = Cost.fitted((small, large), (less, most), seconds, seconds)
    if whole is None or not cost.bytes_per_pixel * small > less > 0:
        return cost
    power = math.log(most / less) / math.log(large / small)
    slope = most / large * max(1.0, whole / large) ** (power - 1)
    return Cost(max(0.0, less - slope * small), slope, seconds, seconds)


# -- sweeps ----------------------------------------------------------------------------


@dataclass(frozen=True)
class FinalizeCost:
    """Costs of turning the counts of all tiles into statistics, once."""

    peak_bytes: float = 0.0
    seconds: float = 0.0
    statistics_bytes: int = 0
    """Of the statistics that stay."""


@dataclass(frozen=True)
class SweepCosts:
    """Costs by the number of the step."""

    sweeps: dict[int, Cost]
    first: dict[int, Cost]
    """Of sweeps that leave several maps of a tile's own pixels: the first map alone."""
    seconds_per_operation: float = 0.0
    """Seconds of a whole step per multiplication."""
    finalizing: Mapping[int, FinalizeCost] = field(default_factory=dict)
    """Of sweeps that count."""

    @property
    def finalizing_bytes(self) -> int:
        """Most bytes while counts become statistics, beside those of earlier sweeps."""
        return int(max((each.peak_bytes for each in self.finalizing.values()), default=0))

    @property
    def statistics_bytes(self) -> int:
        """Bytes of all statistics that sweeps count."""
        return sum(each.statistics_bytes for each in self.finalizing.values())


_OF_SWEEPS = MeasurementCache(SweepCosts, timed=True)


def calibrate_sweeps(model: SweptModel, device: Device, threads: int, precision: str) -> SweepCosts:
    """Return the cost of `model` with `threads` threads; cached, also by kind."""
    return _OF_SWEEPS.of(
        model,
        device,
        lambda: _measured_sweeps(model, device, threads, precision),
        threads,
        precision,
        SIDES_OF_SWEEPS,
    )


def _measured_sweeps(model: SweptModel, device: Device, threads: int, precision: str) -> SweepCosts:
    torch.set_num_threads(threads)
    batches = BATCHES_CUDA if device.is_cuda else BATCHES
    if model.tile is not None:
        sizes = [(model.tile, batch) for batch in batches]
    else:
        step = model.multiple
        sides = [-(-max(side, model.card.min_size) // step) * step for side in SIDES_OF_SWEEPS]
        if sides[0] == sides[1]:
            sides[1] += step
        sizes = [(side, 1) for side in sides]
    with torch.inference_mode(), computing(device, precision), freed_memory_kept():
        one, other = (_Sweeps(model, device, *size) for size in sizes)
        one.run()
        other.run()
        pixels = one.pixels, other.pixels
        return SweepCosts(
            _parts(pixels, one.found, other.found),
            _parts(pixels, one.first, other.first),
            _seconds_per_operation(model, device),
            one.finalizing,
        )


class _Sweeps:
    """The sweeps run one after another on one synthetic tile, or a batch of it."""

    def __init__(self, model: SweptModel, device: Device, side: int, batch: int) -> None:
        self._model, self._device, self._side, self._batch = model, device, side, batch
        self.pixels = batch * side**2
        self.found: dict[int, tuple[float, float]] = {}
        """Bytes at the peak and seconds per pixel, by sweep."""
        self.first: dict[int, tuple[float, float]] = {}
        """The same of the first map alone."""
        self.finalizing: dict[int, FinalizeCost] = {}

    def run(self) -> None:
        model, batch = self._model, self._batch
        x = example_input(model, self._side, self._side)
        statistics = example_statistics(model, x)
        if model.card.placed:
            # A tile of an image as they are: what it counts may follow from its share of that.
            size = (SIDES_OF_AN_IMAGE * self._side,) * 2
            statistics = placed_at(statistics, [(0, 0)] * batch, 1.0, x, size)
        tiles = x.expand(batch, *x.shape[1:]).contiguous()
        maps: dict[str, Tensor] = {}
        for number, step in enumerate(model.ordered_steps):
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
        """Measure one sweep, and add what it leaves to `maps`; returns also its statistics."""
        counts, pixels = step.counts, self.pixels

        def call(wanted: frozenset[str] | None = None) -> tuple[dict[str, Tensor], Sums]:
            # Copies: a run stacks the pixels and maps of its tiles.
            view = self._model.view(tiles.clone(), statistics) if step.sees_image else None
            read = {name: maps[name].clone() for name in step.reads}
            outputs = dict(step.run(SweepInput(view, read, statistics, wanted)))
            if counts is None or wanted is not None:
                return outputs, {}
            features = {each.name: outputs[each.name][:1] for each in counts.features}
            return outputs, counts.count(features, None)

        if len(step.writes) > 1 and step.is_shallow:
            first = frozenset([step.writes[0].name])
            self.first[number] = _timed(lambda: call(first), self._device, pixels)[:2]
        peak, seconds, (outputs, sums) = _timed(call, self._device, pixels)
        self.found[number] = peak, seconds
        maps |= {each.name: outputs[each.name] for each in step.writes}
        if counts is None:
            return statistics
        finalize = partial(counts.finalize, sums, statistics)
        peak, seconds, counted = _timed(finalize, self._device, 1)
        size = sum(value.nbytes for value in counted.values())
        self.finalizing[number] = FinalizeCost(peak, seconds, size)
        return {**statistics, **counted}


def _parts(
    pixels: tuple[int, int],
    one: Mapping[int, tuple[float, float]],
    other: Mapping[int, tuple[float, float]],
) -> dict[int, Cost]:
    """Return the costs fitted to two measurements of sweeps, by their number."""
    return {
        number: Cost.fitted(pixels, (peak, other[number][0]), seconds, other[number][1])
        for number, (peak, seconds) in one.items()
    }


def _seconds_per_operation(model: SweptModel, device: Device) -> float:
    """Return the seconds of one layer on a small grid, per multiplication; the layers are alike."""
    step = model.ordered_steps.whole
    if step is None:
        return 0.0
    # Cells that differ: with equal ones few experts are active.
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(GRID, GRID, step.reads.channels, generator=generator).to(device.torch)
    step.layer(0, grid.clone())
    device.wait()
    began = time.perf_counter()
    step.layer(0, grid)
    device.wait()
    return (time.perf_counter() - began) / step.operations(0, GRID, GRID)


# -- preparing ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PrepareCost:
    """Bytes at the peak and seconds of `prepare`, and bytes of the statistics it leaves."""

    peak_bytes: int = 0
    """Without the overview itself."""
    statistics_bytes: int = 0
    seconds: float = 0.0
    pixels: int = 0
    """Pixels of the overview, brought to model range at once."""


_Shape = tuple[int, int]
_OF_PREPARING = MeasurementCache(PrepareCost, timed=True, releases=True)


def prepare_cost(
    model: RestorationModel,
    image: Image,
    device: Device,
    *,
    extent: str = "image",
    region: Region | None = None,
    kept: bool = False,
) -> PrepareCost:
    """Return the cost for `image`; nothing for models whose statistics are a few numbers.

    `extent` and `region` are those of the context, see `compute_context`. What is `kept` on disk
    takes no time. Measured once per kind of model on a synthetic overview of the final size (rounded
    up): the cost of a larger one does not follow from a smaller one, as a network may reduce it.
    """
    if not model.card.placed:
        return PrepareCost()
    height, width = _overview_shape(image, extent, region)
    shape = (-(-height // STEP) * STEP, -(-width // STEP) * STEP)
    cost = _OF_PREPARING.of(
        model,
        device,
        lambda: _measured_preparing(model, device, shape),
        shape,
    )
    host = HOST_BYTES_PER_VALUE * min(cost.pixels, height * width) * image.bands
    seconds = 0.0 if kept else cost.seconds
    return replace(cost, peak_bytes=cost.peak_bytes + host, seconds=seconds)


def _overview_shape(image: Image, extent: str, region: Region | None) -> _Shape:
    whole = image.full or image
    height, width = whole.height, whole.width
    if region is not None:
        height, width = region.shape
    elif extent == "overview" and (level := overview_level(whole)) is not None:
        height, width = whole.level_shapes[level]
    factor = overview_factor(height, width)
    return -(-height // factor), -(-width // factor)


def _measured_preparing(model: RestorationModel, device: Device, shape: _Shape) -> PrepareCost:
    torch.set_num_threads(cores())
    small = example_context(example_input(model, STEP, STEP))
    with torch.no_grad():
        # The first call does one-off work that later ones do not repeat.
        _cost_of_preparing(model, device, small)
        return _cost_of_preparing(model, device, _widened(small, shape))


def _cost_of_preparing(model: RestorationModel, device: Device, context: Context) -> PrepareCost:
    pixels, left = [0], [0]

    def to_model(values: Any) -> Any:
        pixels.append(values.size // values.shape[-1])
        return values.astype("float64")

    def prepare() -> None:
        statistics = model.prepare(context, to_model, tuple(range(context.bands)))
        left.append(sum(value.nbytes for value in statistics.values()))

    began = time.perf_counter()
    peak = peak_of(prepare, device)
    device.wait()
    return PrepareCost(int(peak), max(left), time.perf_counter() - began, max(pixels))


def _widened(small: Context, shape: _Shape) -> Context:
    """Return a context whose overview has `shape`: one broadcast row, which takes little memory."""
    height, width = shape
    row = np.resize(small.overview[:1], (1, width, small.bands))
    overview = np.broadcast_to(row, (height, width, small.bands))
    return replace(small, height=height, width=width, overview=overview)
