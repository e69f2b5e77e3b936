"""What a training run tells while it works; beside the engine's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_restore.engine import Event


@dataclass(frozen=True)
class Trained(Event):
    """How far the run is; told every few seconds."""

    stage: str
    step: int
    """Steps of the stage that are done."""
    steps: int | None
    """Steps of the stage, None if its length is a time."""
    loss: float
    pairs_per_second: float
    seconds_left: float | None
    """Of the stage."""
    score: float | None
    """The last dev score in dB."""


@dataclass(frozen=True)
class Scored(Event):
    """dev figures of the average of the weights."""

    step: int
    best: bool
    """Whether it is the best so far, which is kept."""
    text: str
    figures: dict[str, float] = field(default_factory=dict)
