"""Validation of the averaged weights, and the file of the best ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from napari_restore.models import RestorationModel, sha256_of_file
from napari_restore.training.loop._checkpoint import State
from napari_restore.training.loop._config import TrainConfig
from napari_restore.training.loop._pictures import Pictures
from napari_restore.training.loop._publish import write_weights
from napari_restore.training.loop._score import Validator, sentence

BEST = "best.safetensors"
"""File name in the output folder."""


class Best:
    """The best averaged weights of a run; without dev scenes the last ones.

    Its methods update `state` with the best step and the last score.
    """

    def __init__(self, config: TrainConfig, pictures: Pictures) -> None:
        self.path = config.run.output / BEST
        self.validator = (
            Validator(pictures.dev, config.score, config.degradation) if pictures.dev else None
        )
        self.figures: dict[str, float] = {}
        """Figures of the last score."""
        self.best_figures: dict[str, float] = {}
        self._scored_on: dict[str, Any] = {}
        if pictures.dev:
            settings = {k: v for k, v in asdict(config.score).items() if k != "index"}
            self._scored_on = {**settings, "names": [scene.name for scene in pictures.dev]}

    @property
    def columns(self) -> list[str]:
        """Names of the figures, `score` first."""
        return ["score"] if self.validator is None else self.validator.columns

    def content(self) -> dict[str, Any]:
        """Return the contents for a checkpoint."""
        return {
            "scored_on": self._scored_on,
            "figures": self.figures,
            "best_figures": self.best_figures,
        }

    def restore(self, content: Mapping[str, Any], state: State) -> bool:
        """Restore the scores of a checkpoint; return False if scenes or settings differ."""
        if content["scored_on"] != self._scored_on:
            state.forget_best()
            state.baselines = {}
            return False
        is_there = self.path.is_file() and sha256_of_file(self.path) == state.best_digest
        if state.best_step and not is_there:
            # The process was killed between the two files, or the file was removed.
            state.forget_best()
        else:
            self.figures, self.best_figures = content["figures"], content["best_figures"]
        return True

    def is_due(self, state: State) -> bool:
        """Return whether the average of this step has no score."""
        return self.validator is not None and state.scored_step != state.step

    def score(
        self, average: RestorationModel, state: State, check_cancelled: Callable[[], None]
    ) -> tuple[bool, str]:
        """Score the average, save it if it is the best; return whether it is, and a summary."""
        assert self.validator is not None
        self.figures = {**self.validator.score(average, check_cancelled), **state.baselines}
        is_best = self.figures["score"] > state.best
        state.scored_step, state.scored_seconds = state.step, state.seconds
        if is_best:
            state.best, state.best_step = self.figures["score"], state.step
            state.best_digest = write_weights(average, self.path)
            self.best_figures = self.figures
        return is_best, sentence(self.figures, self.validator.groups)

    def ensure_best(self, average: RestorationModel, state: State) -> str:
        """Ensure that there are weights to publish; return a summary of their figures."""
        if state.best == -math.inf:
            # No score yet: use the last average.
            write_weights(average, self.path)
            state.best_step = state.step
            return ""
        return "" if self.validator is None else sentence(self.best_figures, self.validator.groups)
