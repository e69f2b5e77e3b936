"""What it costs that a placed model looks at a whole image: memory and time, measured once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from napari_restore.engine._calibrate import told_if_too_full
from napari_restore.engine._device import Device, cores
from napari_restore.engine._device_memory import peak_of
from napari_restore.engine._own_thread import on_own_thread
from napari_restore.engine._probe import example_context, example_input, kind_of
from napari_restore.images import Image
from napari_restore.models import Facts, RestorationModel, overview_factor

SIDES = (256, 512, 1024)
"""Of made-up overviews: tried are the largest that is needed and half of it."""
HOST_BYTES_PER_VALUE = 24
"""Of an overview in model range beside the tensors: twice float64, twice float32."""


@dataclass(frozen=True)
class PrepareCost:
    """Bytes at the peak and seconds of `prepare`, and bytes of the facts it leaves."""

    peak_bytes: int = 0
    fact_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Line:
    """Of something that grows with the area of the overview."""

    fixed: float
    slope: float

    def at(self, pixels: int) -> float:
        return self.fixed + self.slope * pixels


_Lines = tuple[_Line, _Line, _Line]
_KNOWN: WeakKeyDictionary[RestorationModel, dict[tuple[str, int], _Lines]] = WeakKeyDictionary()
_ALIKE: dict[tuple[Any, ...], _Lines] = {}


def prepare_cost(model: RestorationModel, image: Image, device: Device) -> PrepareCost:
    """The cost for `image`; nothing for models whose facts are a few numbers.

    Measured on two made-up overviews, once per kind of model; larger ones follow.
    """
    if not model.card.placed:
        return PrepareCost()
    whole = image.full or image
    factor = overview_factor(whole.height, whole.width)
    height, width = -(-whole.height // factor), -(-whole.width // factor)
    side = next((side for side in SIDES if side >= max(height, width)), SIDES[-1])
    known = _KNOWN.setdefault(model, {})
    key, kind = (device.name, side), kind_of(model)
    if key not in known and kind is not None and (kind, *key) in _ALIKE:
        known[key] = _ALIKE[kind, *key]
    if key not in known:
        with told_if_too_full(device):
            known[key] = on_own_thread(lambda: _measure(model, device, side), "calibrate")
        if kind is not None:
            _ALIKE[kind, *key] = known[key]
    peak, left, seconds = (line.at(height * width) for line in known[key])
    host = HOST_BYTES_PER_VALUE * height * width * image.bands
    return PrepareCost(int(peak) + host, int(left), seconds)


def _measure(model: RestorationModel, device: Device, side: int) -> _Lines:
    torch.set_num_threads(cores())
    model.to(device.torch)
    found = []
    with torch.no_grad():
        for length in (side // 2, side):
            x = example_input(model, length, length)
            context = example_context(x)
            facts: list[Facts] = []

            def prepare(context: Any = context, facts: list[Facts] = facts) -> None:
                facts.append(model.prepare(context, _as_it_is, tuple(range(context.bands))))

            began = time.perf_counter()
            peak = peak_of(prepare, device)
            device.wait()
            seconds = time.perf_counter() - began
            left = sum(fact.numel() * fact.element_size() for fact in facts[0].values())
            found.append((length * length, (peak, left, seconds)))
    (few, small), (many, large) = found
    return tuple(_line(few, a, many, b) for a, b in zip(small, large, strict=True))  # type: ignore[return-value]


def _line(few: int, small: float, many: int, large: float) -> _Line:
    slope = max(0.0, (large - small) / (many - few))
    return _Line(max(0.0, small - slope * few), slope)


def _as_it_is(values: Any) -> Any:
    return values.astype("float64")
