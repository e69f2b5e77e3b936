"""What a model or a device may raise, and what it means."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_restore.errors import BadModel, OutOfMemory
from napari_restore.models import RestorationModel, first_line

FAILURES = (
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
)
"""Exceptions that a broken model raises."""


def as_failure(model: RestorationModel, error: Exception) -> OutOfMemory | BadModel:
    """Return the error to raise for one that `model` raised on a tile."""
    if is_out_of_memory(error):
        return OutOfMemory("Out of memory in a tile.")
    return BadModel(
        f"Model {model.card.id} failed on a tile: {first_line(error)}.",
        "Finished tiles are kept; check the model or try another tile size.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch or Python ran out of memory; torch reports it in several ways."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


@contextmanager
def out_of_memory_as(message: str, hint: str) -> Iterator[None]:
    """Raise `OutOfMemory` in place of what torch or Python raises."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(message, hint) from error


def clear_frames(error: BaseException) -> None:
    """Free the tensors in the stack frames of `error`, which its traceback keeps alive."""
    # Otherwise the memory that ran out is still in use while a smaller batch is tried.
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
