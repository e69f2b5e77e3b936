"""Floating-point precision of a model's computations."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from napari_restore.engine.memory._device import Device
from napari_restore.errors import BadParameter
from napari_restore.models import ModelCard

PRECISIONS = ("float32", "bfloat16", "float16")


def check_precision(wanted: str, card: ModelCard) -> None:
    """Raise `BadParameter` if the model does not tolerate these floats."""
    if wanted not in PRECISIONS:
        raise BadParameter(
            f"There is no precision {wanted!r}.", f"Choose among {', '.join(PRECISIONS)}."
        )
    if wanted not in card.precisions:
        raise BadParameter(
            f"Model {card.id} does not compute in {wanted}.",
            f"It takes {', '.join(card.precisions)}.",
        )


def computing(device: Device, precision: str) -> AbstractContextManager[object]:
    """Return a context manager in which products use `precision`; sums and norms stay float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.torch.type, dtype_of(precision))


def dtype_of(name: str) -> torch.dtype:
    """Return the torch dtype of a name in `PRECISIONS`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype
