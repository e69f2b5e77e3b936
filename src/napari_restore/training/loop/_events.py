"""Events of a training run, in addition to those of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_restore.engine import Event


@dataclass(frozen=True)
class Trained(Event):
    """Progress of a run, sent every few seconds."""

    stage: str
    step: int
    """Finished steps of the stage."""
    steps: int | None
    """Steps of the stage, None if its length is a time."""
    loss: float
    pairs_per_second: float
    seconds_left: float | None
    """Remaining time of the stage."""
    score: float | None
    """The last dev score in dB."""


@dataclass(frozen=True)
class Scored(Event):
    """Validation figures of the averaged weights."""

    step: int
    best: bool
    """Whether it is the best so far, and saved."""
    text: str
    figures: dict[str, float] = field(default_factory=dict)
