"""The state of a run on disk, from which it goes on as if it had not stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_restore.errors import BadParameter, InputError

VERSION = 2


@dataclass
class State:
    """What changes while a run goes on, apart from network, average and optimiser."""

    step: int = 0
    """Steps begun, over all stages; those that were not taken count."""
    stage: int = 0
    stage_step: int = 0
    seconds: float = 0.0
    """Spent on steps, over all calls."""
    stage_seconds: float = 0.0
    skipped: int = 0
    """Steps not taken."""
    in_a_row: int = 0
    returns: int = 0
    """How often it went back to an earlier average."""
    running_loss: float = 0.0
    """Mean of the loss over recent steps."""
    running_of: int = 0
    """Steps it is the mean of."""
    best: float = float("-inf")
    best_step: int = 0
    best_digest: str = ""
    """sha256 of the file of the best average."""
    scored_step: int = -1
    scored_seconds: float = 0.0
    saved_step: int = 0
    saved_seconds: float = 0.0
    baselines: dict[str, float] = field(default_factory=dict)
    """dev figures that do not change: input and dcp."""

    def forget_losses(self) -> None:
        """Losses or weights are others from here."""
        self.running_loss, self.running_of, self.in_a_row = 0.0, 0, 0

    def forget_best(self) -> None:
        """The next score is the best."""
        self.best, self.best_step, self.best_digest, self.scored_step = float("-inf"), 0, "", -1


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint beside, read it again, and put it in the place of the old one."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save({"version": VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        if not _equal(_read(part), {"version": VERSION, **content}):
            raise InputError(
                f"{part} does not hold what was written.", "Is the disk sound? Choose another."
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint, on the CPU; None if there is none. Runs no code of it.

    Raises `InputError` for a file that is none.
    """
    if not path.is_file():
        return None
    try:
        content = _read(path)
    except Exception as error:
        raise InputError(
            f"{path} is no readable checkpoint.", "Remove it, or choose another run.output."
        ) from error
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} was written by another version.", "Remove it, or choose another run.output."
        )
    return content


def check_same(now: Mapping[str, Any], then: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with another configuration than the run began with.

    Both are what `TrainConfig.deciding` gave. Raises `BadParameter`, naming the first
    key that differs.
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
