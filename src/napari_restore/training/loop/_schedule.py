"""Progress of a stage, learning rate, and intervals."""

from __future__ import annotations

import math

from napari_restore.training.loop._checkpoint import State
from napari_restore.training.loop._config import Every
from napari_restore.training.loop._stages import OptimiserConfig, TrainingStage


def learning_rate(config: OptimiserConfig, step: int, progress: float) -> float:
    """Return the learning rate of a step.

    `step` counts a stage's steps from 0, `progress` (0 to 1) is the share of the stage
    that is done. The warm-up is in steps, also where the stage has a length in minutes; the
    cosine falls over the whole stage to ``final · lr``.
    """
    rate = config.lr
    if config.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        rate *= config.final + (1 - config.final) * fall
    return rate * min(1.0, (step + 1) / (config.warmup + 1))


def share_done(state: State, stage: TrainingStage) -> float:
    """Return the finished share of a stage, by steps or time."""
    if stage.steps is not None:
        return state.stage_step / stage.steps
    assert stage.minutes is not None
    return state.stage_seconds / (60 * stage.minutes)


def is_due(every: Every, step: int, seconds: float) -> bool:
    """Return whether an interval is over: steps count from the start, `seconds` from the last time."""
    if every.steps is not None:
        return step % every.steps == 0
    assert every.minutes is not None
    return seconds >= 60 * every.minutes
