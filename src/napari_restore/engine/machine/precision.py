"""Floating-point precision of a model's computations."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.engine.machine.device import Device
from napari_restore.errors import BadParameter
from napari_restore.models import ModelCard

PRECISIONS = ("float32", "bfloat16", "float16")
AUTO = "auto"
"""bfloat16 where it is quicker and close enough, else float32."""
STEPS = 1.0
"""Steps of 8 bits by which 99.9 % of the values may differ from float32."""


def check_precision(wanted: str, card: ModelCard) -> None:
    """Raise `BadParameter` if the model does not tolerate these floats."""
    if wanted == AUTO:
        return
    if wanted not in PRECISIONS:
        raise BadParameter(
            f"There is no precision {wanted!r}.", f"Choose among {', '.join((AUTO, *PRECISIONS))}."
        )
    if wanted not in card.precisions:
        raise BadParameter(
            f"Model {card.id} does not compute in {wanted}.",
            f"It takes {', '.join(card.precisions)}.",
        )


def chosen_precision(wanted: str, card: ModelCard, dtype: npt.DTypeLike, device: Device) -> str:
    """Return the precision that `wanted` stands for: a name of `PRECISIONS`."""
    if wanted != AUTO:
        return wanted
    # `AUTO` is bfloat16 for an image of 8 bits on a processor with bfloat16, if the card says that
    # it changes 99.9 % of the values by at most `STEPS`.
    error = card.bfloat16_error
    is_close = error is not None and error <= STEPS and np.dtype(dtype) == np.uint8
    return "bfloat16" if is_close and _has_bfloat16(device) else "float32"


def _has_bfloat16(device: Device) -> bool:
    """Return whether `device` is a processor that multiplies in bfloat16."""
    if device.name != "cpu":
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


def computing(device: Device, precision: str) -> AbstractContextManager[object]:
    """Return a context manager in which products use `precision`; sums and norms stay float32."""
    if precision == "float32":
        return _without_tf32() if device.is_cuda else contextlib.nullcontext()
    return torch.autocast(device.torch.type, dtype_of(precision))


Switch = tuple[Any, str, Any]
"""Object, name and value of a setting of PyTorch."""
_before: list[Switch] = []
_inside = 0
_lock = threading.Lock()


def _switches(exact: bool) -> list[Switch]:
    """Return the process's switches of TF32: as they are, or where results are `exact`."""
    cudnn: Any = torch.backends.cudnn
    product: Any = torch.backends.cuda.matmul
    try:
        older = [(each, "allow_tf32", each.allow_tf32) for each in (cudnn, product)]
    except RuntimeError:
        # From PyTorch 2.9 on they cannot be read once a program has set the newer ones.
        newer = (cudnn.conv, cudnn.rnn, product)
        name = "fp32_precision"
        return [(each, name, "ieee" if exact else getattr(each, name)) for each in newer]
    return [(each, name, value and not exact) for each, name, value in older]


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute in float32 what cuDNN and cuBLAS may compute in TF32, which has 10 bits of mantissa."""
    global _inside
    # cuDNN does so unless it is asked not to. The switches are those of the process: the first
    # thread to enter sets them, the last to leave sets them back.
    with _lock:
        if not _inside:
            _before[:] = _switches(exact=False)
            for switch in _switches(exact=True):
                setattr(*switch)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for switch in _before:
                    setattr(*switch)


def dtype_of(name: str) -> torch.dtype:
    """Return the torch dtype of a name in `PRECISIONS`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype
