"""The training loop: steps, averaging, validation, checkpoints, and final weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import torch

from napari_restore.extension import (
    BadOutput,
    Cancelled,
    Event,
    InputError,
    Note,
    OutOfMemory,
    Phase,
    RestorationModel,
    RestoreError,
    choose_device,
    clear_frames,
    is_out_of_memory,
    sha256_of_file,
)
from napari_restore_lab.loop import _checkpoint, _publish
from napari_restore_lab.loop._checkpoint import State
from napari_restore_lab.loop._config import TrainConfig
from napari_restore_lab.loop._learner import Learner, is_due, share_done
from napari_restore_lab.loop._log import NO_PLOT, Log, LogSums
from napari_restore_lab.loop._pictures import Pictures
from napari_restore_lab.loop._publish import write_weights
from napari_restore_lab.loop._score import Validator, sentence

MAX_SKIPPED_IN_A_ROW = 3
"""Consecutive skipped steps before the run restarts from its average."""
MAX_RESTARTS = 5
"""Restarts before the run fails."""
PROGRESS_SECONDS = 2.0
"""Seconds between two progress events."""
CHECKPOINT, LOG, PLOT = "checkpoint.pt", "training.csv", "training.png"


@dataclass
class Control:
    """Callbacks to follow and cancel a run."""

    emit: Callable[[Event], None] = lambda event: None
    cancelled: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic


def train(
    config: TrainConfig, pictures: Pictures, device: str = "auto", control: Control | None = None
) -> dict[str, Any]:
    """Train, or continue the run in the output folder.

    Returns a report: ``status`` ("done", or "stopped" at `stop_after`), ``step``,
    ``seconds``, ``best``, ``figures``, ``weights`` (path), ``sha256``. On one machine and
    on the CPU an interrupted run takes the same steps, bit for bit, as an uninterrupted one, if
    stages have a length in steps; it selects the same average if `score_every` is in steps, too.
    A run that restarted from an average does not, as this depends on the last checkpoint.

    Raises
    ------
    Cancelled
        `control.cancelled` returned true; all is saved.
    OutOfMemory
        A step or a score was too large; all before it is saved.
    BadParameter, MissingWeights, BadModel, InputError
        Nothing was trained, or the training diverged repeatedly.
    """
    with torch.random.fork_rng(), _threads(config.run.threads):
        run = _Run(config, pictures, choose_device(device).torch, control or Control())
        return run.go()


def verify(config: TrainConfig) -> None:
    """Check model and losses before any image is read.

    Raises `UnknownModel`, `BadParameter`, `MissingWeights`, `BadModel`.
    """
    Learner(config, torch.device("cpu"))


class _Run:
    """One call of `train`."""

    def __init__(
        self, config: TrainConfig, pictures: Pictures, device: torch.device, control: Control
    ) -> None:
        self.config, self.pictures, self.device, self.control = config, pictures, device, control
        self.folder = config.run.output
        self.weights = self.folder / f"{config.name}.safetensors"
        self.learner = Learner(config, device)
        self.state = State()
        self.best = Best(config, pictures)
        self.log = Log(self.folder / LOG, list(self.learner.objective.weights), self.best.columns)
        self._sums = LogSums()
        self._last_progress = -math.inf
        self._notes_sent: set[str] = set()

    # -- the run -------------------------------------------------------------------

    def go(self) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._begin()
        start = self.control.clock()
        limit = self.config.run.stop_after
        deadline = math.inf if limit is None else start + 60 * limit
        status = "done"
        while self.state.stage < len(self.config.stages):
            if not self._stage(deadline):
                status = "stopped"
                break
            self.state.stage += 1
            self.state.stage_step, self.state.stage_seconds = 0, 0.0
            self.state.forget_losses()
            if self.state.stage < len(self.config.stages):
                self.learner.enter(self.state.stage)
                self._save()
        # An interruption must not add a score, which might become the best.
        if status == "done" and self.best.is_due(self.state):
            self._score()
        self._row()
        self._save()
        return self._end(status)

    def _begin(self) -> None:
        checkpoint_content = _checkpoint.load(self.folder / CHECKPOINT)
        self.deciding = self.config.deciding() | {"data.scenes": self.pictures.digest}
        if checkpoint_content is not None:
            _checkpoint.check_same(self.deciding, checkpoint_content["deciding"], self.folder)
            self.state = State(**checkpoint_content["state"])
            self.learner.resume(
                checkpoint_content, min(self.state.stage, len(self.config.stages) - 1)
            )
            self._note(f"Continues from step {self.state.step}.")
            if not self.best.restore(checkpoint_content, self.state):
                self._note("[score] or its scenes changed: the best average is determined again.")
        elif self.weights.exists():
            raise BadOutput(
                f"{self.weights} exists and is not of this run.", "Choose another run.output."
            )
        self.log.start(self.state.step)
        if self.best.validator is not None and not self.state.baselines:
            self.control.emit(Phase("Scoring the input"))
            self.state.baselines = self.best.validator.baselines(self._check_cancelled)
        self.control.emit(Phase("Training"))
        every = self.config.run.score_every.steps
        if (
            self.state.step
            and every
            and self.state.step % every == 0
            and self.best.is_due(self.state)
        ):
            # The last call was interrupted during scoring.
            self._score()

    def _stage(self, deadline: float) -> bool:
        """Train to the end of the stage; return False if the time of this call is over."""
        stage = self.learner.stage
        feed = self.pictures.feed(stage.recipe)
        with contextlib.closing(feed.batches(self.state.step)) as batches:
            then = self.control.clock()
            while share_done(self.state, stage) < 1:
                self._check_cancelled()
                if self.control.clock() >= deadline:
                    return False
                with self._out_of_memory_handled("Choose a smaller recipe.batch or recipe.size"):
                    self._step(self._next(batches))
                now = self.control.clock()
                self.state.seconds += now - then
                self.state.stage_seconds += now - then
                self._sums.seconds += now - then
                self._emit_progress(now)
                self._intervals()
                # Time for scores and files does not count as training.
                then = self.control.clock()
        return True

    def _next(self, batches: Iterator[Any]) -> Any:
        try:
            return next(batches)
        except (RestoreError, OSError, MemoryError):
            # Ctrl-C may have ended a worker process.
            if self.control.cancelled():
                self._stop()
            # Save the steps so far.
            self._row()
            self._save()
            raise

    def _check_cancelled(self) -> None:
        """Save and raise `Cancelled` if the caller cancelled the run."""
        if self.control.cancelled():
            self._stop()

    @contextlib.contextmanager
    def _out_of_memory_handled(self, hint: str) -> Iterator[None]:
        """Save and raise `OutOfMemory` where memory runs out."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error)
            step = self.state.step
            if self.learner.is_whole:
                self._row()
                self._save()
            raise OutOfMemory(
                f"Memory ran out after step {step}.", f"{hint}, and another run.output."
            ) from None

    def _stop(self) -> NoReturn:
        self._row()
        self._save()
        raise Cancelled(
            f"Stopped at step {self.state.step}.", "The same command continues from there."
        )

    def _step(self, batch: Any) -> None:
        taken = self.learner.step(batch, self.state)
        self._sums.pairs += len(batch.names)
        if taken is not None:
            self._sums.add(taken.loss, taken.losses)
        elif self.state.in_a_row >= MAX_SKIPPED_IN_A_ROW:
            self._go_back()

    def _go_back(self) -> None:
        state = self.state
        state.returns += 1
        if state.returns > MAX_RESTARTS:
            raise InputError(
                f"The training diverges: {state.skipped} of {state.step} steps were skipped.",
                "Lower optimiser.lr or optimiser.clip in a new run.output.",
            )
        checkpoint_content = _checkpoint.load(self.folder / CHECKPOINT)
        since = state.step if checkpoint_content is None else checkpoint_content["state"]["step"]
        self.learner.restart_from_average(checkpoint_content, state)
        self._note(
            f"{MAX_SKIPPED_IN_A_ROW} steps in a row were skipped at step {state.step}: "
            f"restarted from the average of step {since}."
        )

    # -- progress and files --------------------------------------------------------

    def _intervals(self) -> None:
        state, run = self.state, self.config.run
        is_last = state.stage + 1 == len(self.config.stages)
        ends = is_last and share_done(state, self.learner.stage) >= 1
        since = state.seconds - state.scored_seconds
        if self.best.validator is not None and (ends or is_due(run.score_every, state.step, since)):
            self._score()
        elif state.step % run.log_every == 0:
            self._row()
        if is_due(run.checkpoint_every, state.step, state.seconds - state.saved_seconds):
            self._row()
            self._save()

    def _row(self, figures: Mapping[str, float] | None = None) -> None:
        if not self._sums.steps and not self._sums.pairs and not figures:
            return
        state = self.state
        row = {
            "step": state.step,
            "seconds": state.seconds,
            "stage": self.learner.stage.name,
            "lr": self.learner.rate,
            "pairs_per_second": self._sums.rate,
            "skipped": state.skipped,
        }
        self.log.add({**row, **self._sums.means(), **(figures or {})})
        self._sums = LogSums()

    def _score(self) -> None:
        with self._out_of_memory_handled("Choose a smaller score.side"):
            is_best, text = self.best.score(
                self.learner.average.module, self.state, self._check_cancelled
            )
        self._row(self.best.figures)
        if is_best:
            # Weights file and checkpoint must match.
            self._save()
        self.control.emit(Scored(self.state.step, is_best, text, self.best.figures))
        if not self.log.plot(self.folder / PLOT):
            self._note(NO_PLOT)

    def _save(self) -> None:
        state = self.state
        state.saved_step, state.saved_seconds = state.step, state.seconds
        content = {
            "deciding": self.deciding,
            "state": asdict(state),
            **self.best.content(),
            **self.learner.content(),
        }
        _checkpoint.save(self.folder / CHECKPOINT, content)

    def _end(self, status: str) -> dict[str, Any]:
        scored = self.best.ensure_best(self.learner.average.module, self.state)
        figures = self.best.best_figures
        card = _publish.card(self.config, self.pictures, self.state, figures, scored, self.device)
        digest = _publish.publish(self.best.path, self.weights, card)
        if not self.log.plot(self.folder / PLOT):
            self._note(NO_PLOT)
        best = self.state.best
        return {
            "status": status,
            "step": self.state.step,
            "seconds": round(self.state.seconds, 1),
            "skipped": self.state.skipped,
            "best": {"step": self.state.best_step, "score": best if best > -math.inf else None},
            "figures": figures,
            "weights": str(self.weights),
            "sha256": digest,
        }

    def _emit_progress(self, now: float) -> None:
        if now - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = now
        state, stage = self.state, self.learner.stage
        done = share_done(state, stage)
        left = state.stage_seconds * (1 - done) / done if done > 0 else None
        self.control.emit(
            Trained(
                stage=stage.name,
                step=state.stage_step,
                steps=stage.steps,
                loss=state.running_loss,
                pairs_per_second=self._sums.rate,
                seconds_left=left,
                score=self.best.figures.get("score"),
            )
        )

    def _note(self, text: str) -> None:
        if text not in self._notes_sent:
            self._notes_sent.add(text)
            self.control.emit(Note(text))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
