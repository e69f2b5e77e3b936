"""Cost of preparing a position-dependent model from a whole image, measured once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_restore.engine._region import Region
from napari_restore.engine.machine._device import Device, cores
from napari_restore.engine.machine._device_memory import peak_of
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.planning._measurement_cache import MeasurementCache
from napari_restore.engine.planning._probe import example_context, example_input
from napari_restore.engine.statistics._context import overview_level
from napari_restore.images import Image
from napari_restore.models import Context, RestorationModel, Statistics, ToModel, overview_factor

STEP = 256
"""Pixels to whose multiples the sides of an overview are rounded up, so that images of like
sizes share a measurement."""
HOST_BYTES_PER_VALUE = 24
"""Bytes per value, beside the tensors, while an overview is brought to model range: twice
float64, twice float32."""


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
_KNOWN = MeasurementCache(PrepareCost, timed=True, releases=True)


def prepare_cost(
    model: RestorationModel,
    image: Image,
    device: Device,
    *,
    extent: str = "image",
    region: Region | None = None,
) -> PrepareCost:
    """Return the cost for `image`; nothing for models whose statistics are a few numbers.

    `extent` and `region` are those of the context, see `compute_context`. Measured once per kind of
    model on a synthetic overview of the final size (rounded up): the cost of a larger one does not
    follow from a smaller one, as a network may reduce it.
    """
    if not model.card.placed:
        return PrepareCost()
    height, width = _overview_shape(image, extent, region)
    shape = (-(-height // STEP) * STEP, -(-width // STEP) * STEP)
    cost = _KNOWN.of(
        model,
        device,
        lambda: on_new_thread(lambda: _measure(model, device, shape), "calibrate"),
        shape,
    )
    host = HOST_BYTES_PER_VALUE * min(cost.pixels, height * width) * image.bands
    return replace(cost, peak_bytes=cost.peak_bytes + host)


def _overview_shape(image: Image, extent: str, region: Region | None) -> _Shape:
    whole = image.full or image
    height, width = whole.height, whole.width
    if region is not None:
        height, width = region.shape
    elif extent == "overview" and (level := overview_level(whole)) is not None:
        height, width = whole.level_shapes[level]
    factor = overview_factor(height, width)
    return -(-height // factor), -(-width // factor)


def _measure(model: RestorationModel, device: Device, shape: _Shape) -> PrepareCost:
    torch.set_num_threads(cores())
    model.to(device.torch)
    small = example_context(example_input(model, STEP, STEP))
    cost = PrepareCost()
    with torch.no_grad():
        # The first call does one-off work that later ones do not repeat.
        for context in (small, _widened(small, shape)):
            statistics: list[Statistics] = []
            pixels: list[int] = [0]

            def as_it_is(values: Any, pixels: list[int] = pixels) -> Any:
                pixels.append(values.size // values.shape[-1])
                return values.astype("float64")

            def prepare(
                context: Context = context,
                statistics: list[Statistics] = statistics,
                to_model: ToModel = as_it_is,
            ) -> None:
                statistics.append(model.prepare(context, to_model, tuple(range(context.bands))))

            began = time.perf_counter()
            peak = peak_of(prepare, device)
            device.wait()
            seconds = time.perf_counter() - began
            left = sum(value.numel() * value.element_size() for value in statistics[0].values())
            cost = PrepareCost(int(peak), left, seconds, max(pixels))
    return cost


def _widened(small: Context, shape: _Shape) -> Context:
    """Return a context whose overview has `shape`: one broadcast row, which takes little memory."""
    height, width = shape
    row = np.resize(small.overview[:1], (1, width, small.bands))
    overview = np.broadcast_to(row, (height, width, small.bands))
    return replace(small, height=height, width=width, overview=overview)
