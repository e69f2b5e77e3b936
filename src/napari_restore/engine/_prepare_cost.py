"""What it costs that a placed model looks at a whole image: memory and time, measured once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from napari_restore.engine._calibrate import told_if_too_full
from napari_restore.engine._context import overview_level
from napari_restore.engine._device import Device, cores
from napari_restore.engine._device_memory import peak_of
from napari_restore.engine._own_thread import on_own_thread
from napari_restore.engine._probe import example_context, example_input, kind_of
from napari_restore.engine._region import Region
from napari_restore.images import Image
from napari_restore.models import Facts, RestorationModel, overview_factor

STEP = 256
"""Pixels to whose multiples the sides of an overview are rounded up, so that images of like
sizes share a measurement."""
HOST_BYTES_PER_VALUE = 24
"""Of an overview in model range beside the tensors: twice float64, twice float32."""


@dataclass(frozen=True)
class PrepareCost:
    """Bytes at the peak and seconds of `prepare`, and bytes of the facts it leaves."""

    peak_bytes: int = 0
    fact_bytes: int = 0
    seconds: float = 0.0


_Shape = tuple[int, int]
_KNOWN: WeakKeyDictionary[RestorationModel, dict[tuple[str, _Shape], PrepareCost]] = (
    WeakKeyDictionary()
)
_ALIKE: dict[tuple[Any, ...], PrepareCost] = {}


def prepare_cost(
    model: RestorationModel,
    image: Image,
    device: Device,
    *,
    extent: str = "image",
    region: Region | None = None,
) -> PrepareCost:
    """The cost for `image`; nothing for models whose facts are a few numbers.

    `extent` and `region` are those of the context, see `compute_context`. Measured once per
    kind of model on a made-up overview of the size (rounded up) that there will be: what
    a network does to a larger one follows from no smaller one, as it may reduce it.
    """
    if not model.card.placed:
        return PrepareCost()
    height, width = _overview_shape(image, extent, region)
    shape = (-(-height // STEP) * STEP, -(-width // STEP) * STEP)
    known = _KNOWN.setdefault(model, {})
    key, kind = (device.name, shape), kind_of(model)
    if key not in known and kind is not None and (kind, *key) in _ALIKE:
        known[key] = _ALIKE[kind, *key]
    if key not in known:
        with told_if_too_full(device):
            known[key] = on_own_thread(lambda: _measure(model, device, shape), "calibrate")
        if kind is not None:
            _ALIKE[kind, *key] = known[key]
    host = HOST_BYTES_PER_VALUE * height * width * image.bands
    return replace(known[key], peak_bytes=known[key].peak_bytes + host)


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
    found = PrepareCost()
    with torch.no_grad():
        # The first call makes ready what later ones have.
        for height, width in ((STEP, STEP), shape):
            x = example_input(model, height, width)
            context = example_context(x)
            facts: list[Facts] = []

            def prepare(context: Any = context, facts: list[Facts] = facts) -> None:
                facts.append(model.prepare(context, _as_it_is, tuple(range(context.bands))))

            began = time.perf_counter()
            peak = peak_of(prepare, device)
            device.wait()
            seconds = time.perf_counter() - began
            left = sum(fact.numel() * fact.element_size() for fact in facts[0].values())
            found = PrepareCost(int(peak), left, seconds)
    return found


def _as_it_is(values: Any) -> Any:
    return values.astype("float64")
