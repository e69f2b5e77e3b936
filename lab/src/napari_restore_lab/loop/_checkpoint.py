"""Checkpoints: the state of a run on disk, to continue it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_restore.extension import BadParameter, InputError, replacing

VERSION = 2


@dataclass
class State:
    """Mutable state of a run, apart from network, average and optimiser."""

    step: int = 0
    """Steps over all stages, including skipped ones."""
    stage: int = 0
    stage_step: int = 0
    seconds: float = 0.0
    """Time of steps, over all calls."""
    stage_seconds: float = 0.0
    skipped: int = 0
    """Skipped steps."""
    in_a_row: int = 0
    """Consecutive skipped steps."""
    returns: int = 0
    """Restarts from an earlier average."""
    running_loss: float = 0.0
    """Mean of the loss over recent steps."""
    running_of: int = 0
    """Number of steps in this mean."""
    best: float = float("-inf")
    best_step: int = 0
    best_digest: str = ""
    """sha256 of the file of the best average."""
    scored_step: int = -1
    scored_seconds: float = 0.0
    saved_step: int = 0
    saved_seconds: float = 0.0
    baselines: dict[str, float] = field(default_factory=dict)
    """Validation figures independent of the network: input and dcp."""

    def forget_losses(self) -> None:
        """Reset the running mean, as losses or weights change."""
        self.running_loss, self.running_of, self.in_a_row = 0.0, 0, 0

    def forget_best(self) -> None:
        """Reset the best score."""
        self.best, self.best_step, self.best_digest, self.scored_step = float("-inf"), 0, "", -1


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically, after reading it back."""
    with replacing(path, durable=True) as part:
        with part.open("wb") as file:
            torch.save({"version": VERSION, **content}, file)
        if not _equal(_read(part), {"version": VERSION, **content}):
            raise InputError(
                f"{part} does not contain what was written.", "Check the disk, or choose another."
            )


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint to the CPU, without running code in it; None if there is none.

    Raises `InputError` for an invalid file.
    """
    if not path.is_file():
        return None
    try:
        content = _read(path)
    except Exception as error:
        raise InputError(
            f"{path} is not a readable checkpoint.", "Remove it, or choose another run.output."
        ) from error
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} was written by another version.", "Remove it, or choose another run.output."
        )
    return content


def check_same(now: Mapping[str, Any], then: Mapping[str, Any], folder: Path) -> None:
    """Raise `BadParameter` where the configuration differs from that of the checkpoint.

    Both are results of `TrainConfig.deciding`; the message names the first key that differs.
    """
    for name in (*then, *now):
        if now.get(name) != then.get(name):
            raise BadParameter(
                f"{name} was {then.get(name)!r} when the run in {folder} began and is "
                f"{now.get(name)!r} now.",
                "Put it back, or choose another run.output.",
            )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b.detach().cpu())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)
