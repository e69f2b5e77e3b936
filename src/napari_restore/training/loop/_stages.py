"""Stages of a training run, with their own crops, schedule and parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_restore.errors import BadParameter
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.loop._table import check, check_length, convert, fill, table_of


@dataclass(frozen=True)
class OptimiserConfig:
    """[optimiser]: AdamW with a warm-up and a cosine to `final` · lr."""

    lr: float = 5e-4
    weight_decay: float = 0.01
    """Weight decay of matrices and kernels; scales and biases have none."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    """Warm-up steps from 0 to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.02
    """Share of `lr` at the end of the cosine."""
    clip: float = 0.3
    """Largest global gradient norm; 0: no clipping."""

    def __post_init__(self) -> None:
        check(self.lr > 0, f"lr = {self.lr} is not above 0", "Write for instance 5e-4.")
        check(self.weight_decay >= 0, "weight_decay is below 0", "Write 0 for none.")
        check(all(0 <= b < 1 for b in self.betas), "betas lie outside 0 … 1", "As [0.9, 0.99].")
        check(self.warmup >= 0, "warmup is below 0", "Write 0 for none.")
        check(0 <= self.final <= 1, f"final = {self.final} is outside 0 … 1", "It is a share.")
        check(self.clip >= 0, "clip is below 0", "Write 0 for none.")


@dataclass(frozen=True)
class TrainingStage:
    """A stage of training."""

    name: str
    recipe: Recipe
    optimiser: OptimiserConfig
    loss: dict[str, float]
    """Weights of losses by name, overriding those of the objective."""
    steps: int | None
    minutes: float | None
    train_only: tuple[str, ...] = ()
    """Regular expressions; only parameters whose name begins with one are trained."""


@dataclass(frozen=True)
class _StageTable:
    """[[stage]]: settings that override the tables above."""

    name: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    train_only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        both = self.steps is not None and self.minutes is not None
        check(not both, "has both steps and minutes", "Give the length by one of them.")
        check_length(self.steps, self.minutes)
        for pattern in self.train_only or ():
            try:
                re.compile(pattern)
            except re.error as error:
                check(False, f"train_only {pattern!r} is not a regular expression ({error})", "")


def stages_of(tables: Any, top: Mapping[str, Any], folder: Path) -> tuple[TrainingStage, ...]:
    """Return the stages of the [[stage]] tables, with defaults from the tables above, `top`.

    `top` has recipe, optimiser, loss, train_only, steps and minutes. Raises `BadParameter`.
    """
    if not isinstance(tables, list):
        raise BadParameter("[stage] is not a list of tables.", "Write [[stage]], once for each.")
    if not tables:
        raise BadParameter("There is no stage in stage = [].", "Leave it out, or write [[stage]].")
    several = len(tables) > 1
    return tuple(
        _stage(table, top, f"[[stage]] {number}" if several else "[run]", number, folder)
        for number, table in enumerate(tables, 1)
    )


def _stage(
    table: Any, top: Mapping[str, Any], where: str, number: int, folder: Path
) -> TrainingStage:
    values = {"train_only": top["train_only"], **table_of(table, f"[[stage]] {number}")}
    stage = fill(_StageTable, values, where, folder)
    steps, minutes = stage.steps, stage.minutes
    if steps is None and minutes is None:
        steps, minutes = top["steps"], top["minutes"]
    if steps is None and minutes is None:
        raise BadParameter(f"{where} has no length.", "Give steps, or minutes.")
    return TrainingStage(
        name=stage.name or str(number),
        recipe=fill(Recipe, {**top["recipe"], **stage.recipe}, "[recipe]", folder),
        optimiser=fill(
            OptimiserConfig, {**top["optimiser"], **stage.optimiser}, "[optimiser]", folder
        ),
        loss={**convert(dict[str, float], top["loss"], "[loss]", folder), **stage.loss},
        steps=steps,
        minutes=minutes,
        train_only=stage.train_only or (),
    )
