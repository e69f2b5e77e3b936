"""Measurement whether a model's pixels depend on the tile that they are computed in."""

from __future__ import annotations

import contextlib
import math
import time
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from napari_restore.engine._region import CELL, Region
from napari_restore.engine.machine.device import Device, choose_device, cores
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.engine.planning.decided import TileInvariance
from napari_restore.engine.planning.measurements import (
    measurement_file,
    measuring,
    read_measurement,
    write_measurement,
)
from napari_restore.engine.planning.probe import example_input, example_statistics, probe
from napari_restore.engine.planning.tiles import box_with_halo
from napari_restore.models import RestorationModel, content_of, placed_at

PATIENCE = 6.0
"""Seconds of computing after which a slow model is planned for as if its sums followed the tile."""
ROUNDING = 1e-5
"""Most that rounding moves a value, relative to the largest one."""
FIXED_TILE = 512
"""Side in pixels of the tiles of a model whose sums follow the tile."""
_SIZE = (757, 643)
"""Odd, as images are: the last pixels of a tensor may go through other code than the rest."""
_TILES = ((0, 0, 256, 256), (256, 128, 512, 384), (128, 128, 512, 512), (384, 0, 768, 512))
"""Cores (y0, x0, y1, x1) compared with the whole: their input boxes have different shapes."""
_SMALLER = (1, 2, 4)
_KNOWN: WeakKeyDictionary[RestorationModel, dict[tuple[Any, ...], TileInvariance]] = (
    WeakKeyDictionary()
)
"""By device, halo, precision and content."""


def tile_invariance(
    model: RestorationModel,
    device: Device,
    halo: int,
    precision: str = "float32",
    content: str | None = None,
) -> TileInvariance:
    """Return the invariance of `model` on this machine, measured for a local one and cached on disk.

    `content` is the `content_of` the model; None: it is computed.

    Tiles of several shapes, alone and in a batch, on one thread and on several, are compared with
    the whole, bit by bit. Tiles of sweeps are computed on one thread each, which is also faster: all
    pixels follow from what they count, and a measurement would take longer than some of their runs.
    """
    if model.card.scope != "local":
        return TileInvariance.FULL if device.is_accelerator else TileInvariance.ONE_THREAD
    known = _KNOWN.setdefault(model, {})
    content = content_of(model) if content is None else content
    key = device.name, halo, precision, content
    if key not in known:
        known[key] = _found(model, device, halo, precision, content)
    return known[key]


def describe_tile_invariance(model: RestorationModel) -> str:
    """Return a description of the invariance on the device that a run would choose by itself."""
    return str(tile_invariance(model, choose_device(), probe(model).halo))


def _found(
    model: RestorationModel, device: Device, halo: int, precision: str, content: str
) -> TileInvariance:
    file = measurement_file(TileInvariance.__name__, model, device, (halo, precision, content))
    known: TileInvariance | None = read_measurement(file, TileInvariance)
    if known is not None:
        return known
    measure = partial(_measure_in_room, model, device, halo, precision)
    measured_here = on_new_thread(measure, "tile-invariance")
    if measured_here is None:
        # At another time there may be less of it.
        return TileInvariance.FIXED_TILES
    if measured_here is TileInvariance.NONE:
        # It follows from code, which the name of the file does not.
        return measured_here
    write_measurement(file, model.card.id, measured_here)
    return measured_here


def _measure_in_room(
    model: RestorationModel, device: Device, halo: int, precision: str
) -> TileInvariance | None:
    """Return `_measure`, on smaller images where there is no memory for the usual one."""
    for smaller in _SMALLER:
        # A small device reports it; other errors appear in the run itself.
        with contextlib.suppress(MemoryError, torch.OutOfMemoryError), measuring(model, device):
            return _measure(model, device, halo, precision, smaller)
    return None


def _measure(
    model: RestorationModel, device: Device, halo: int, precision: str, smaller: int
) -> TileInvariance | None:
    """Return None where the model is too slow to measure; sides are divided by `smaller`."""
    began = time.thread_time()
    step = math.lcm(CELL, model.card.multiple_of)
    height, width = (max(side // smaller, model.card.min_size) for side in _SIZE)
    whole = Region(0, 0, height, width)
    x = example_input(model, height, width)
    statistics = example_statistics(model, x)

    def output(threads: int, *input_box: Region) -> Tensor:
        torch.set_num_threads(threads)
        pixels = torch.cat([x[(..., *box.slices)] for box in input_box])
        if len(input_box) > 1:
            # Another image beside it, in case that a module takes what is the first one's for all.
            pixels[0] = pixels[0].flip(-1)
        origins = [(box.y0, box.x0) for box in input_box]
        statistics_here = (
            placed_at(statistics, origins, 1.0, pixels) if model.card.placed else statistics
        )
        y: Tensor = model(pixels, statistics_here)
        return y

    several = max(2, cores())
    divided = False
    with torch.inference_mode(), computing(device, precision):
        expected = output(1, whole)
        for box in _TILES:
            core = Region(*(side // smaller for side in box)).align(step).intersect(whole)
            input_box = box_with_halo(core, halo, (height, width), step, model.least_box)
            core_slices = (0, ..., *core.within(input_box))
            part = expected[(0, ..., *core.slices)]
            tile = output(1, input_box)[core_slices]
            if not torch.equal(tile, part):
                # Of less precise types, rounding is not distinguished from a dependence.
                most = ROUNDING * float(part.abs().max()) if precision == "float32" else math.inf
                differs = float((tile - part).abs().max()) > most
                return TileInvariance.NONE if differs else TileInvariance.FIXED_TILES
            divided = divided or not torch.equal(output(several, input_box)[core_slices], part)
            if time.thread_time() - began > PATIENCE:
                return None
        # Kernels are also chosen by the size of a batch: of the last tile, the largest.
        try:
            together = output(1, input_box, input_box)[(1, *core_slices[1:])]
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            # It takes one tile at a time.
            return TileInvariance.FIXED_TILES
        if not torch.equal(together, part):
            return TileInvariance.FIXED_TILES
        divided = divided or not torch.equal(output(several, whole), expected)
    return TileInvariance.ONE_THREAD if divided else TileInvariance.FULL
