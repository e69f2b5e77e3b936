"""Network, weight average and optimiser of a run, and a single training step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from napari_restore.errors import BadParameter
from napari_restore.training.loop._average import Average
from napari_restore.training.loop._checkpoint import State
from napari_restore.training.loop._config import TrainConfig
from napari_restore.training.loop._losses import objective_of
from napari_restore.training.loop._network import (
    choose_parameters,
    make_network,
    make_optimiser,
    set_up_staged,
)
from napari_restore.training.loop._schedule import learning_rate, share_done

MIN_STEPS_FOR_MEAN = 50
"""Steps before the running mean of the loss is used as a reference."""
RUNNING_MEAN_STEPS = 100
"""Window in steps of the running mean of the loss."""


class StepResult(NamedTuple):
    """Losses of a step."""

    loss: float
    losses: dict[str, float]
    """Losses by name, unweighted."""


class Learner:
    """Network, average and optimiser of a run."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.objective = objective_of(config.model.id)
        self.weights = [self.objective.weighted(stage.loss) for stage in config.stages]
        if not all(any(weights.values()) for weights in self.weights):
            raise BadParameter("[loss] leaves no loss.", "Give one a weight above 0.")
        self.model = make_network(config.model, config.run.seed)
        for stage in config.stages:
            # Invalid patterns of any stage raise before the training.
            choose_parameters(self.model, stage.train_only)
        # The memory format in which convolutions are fastest on CPUs.
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Copied before options of the training are applied.
        self.average = Average(self.model, config.run.ema)
        set_up_staged(self.model, config.model)
        self.is_whole = True
        """False after a step that failed halfway: then only the checkpoint is consistent."""
        self.enter(0)

    def enter(self, stage: int) -> None:
        """Begin a stage: select its parameters and create a new optimiser."""
        self.stage = self.config.stages[stage]
        self.loss_weights = {n: w for n, w in self.weights[stage].items() if w}
        choose_parameters(self.model, self.stage.train_only)
        self.optimiser = make_optimiser(self.model, self.stage.optimiser)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def step(self, batch: Any, state: State) -> StepResult | None:
        """Train on a batch and update `state`; return its losses.

        None where the step is skipped: loss or gradients are not finite, or the loss exceeds the
        recent mean by `skip_above`. Network, average and optimiser are then unchanged.
        """
        rate = learning_rate(self.stage.optimiser, state.stage_step, share_done(state, self.stage))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # The random state follows from seed and step, so that no generator is saved.
        torch.manual_seed(_seed_of(self.config.run.seed, state.step))
        losses = self.objective.compute(
            self.model, batch.to(self.device), self.config.run.bf16, self.loss_weights.keys()
        )
        total = torch.zeros((), device=self.device)
        for name, value in losses.items():
            total = total + self.loss_weights[name] * value
        loss = float(total.detach())
        is_taken = self._is_likely(loss, state) and self._apply(total)
        state.step += 1
        state.stage_step += 1
        if not is_taken:
            state.skipped += 1
            state.in_a_row += 1
            return None
        state.in_a_row = 0
        state.running_of += 1
        state.running_loss += (loss - state.running_loss) / min(
            state.running_of, RUNNING_MEAN_STEPS
        )
        return StepResult(loss, {name: float(value.detach()) for name, value in losses.items()})

    def _is_likely(self, loss: float, state: State) -> bool:
        limit = self.config.run.skip_above
        if not math.isfinite(loss):
            return False
        return not (
            limit and state.running_of >= MIN_STEPS_FOR_MEAN and loss > limit * state.running_loss
        )

    def _apply(self, total: Tensor) -> bool:
        """Apply the step; return False without changes where a gradient is not finite."""
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.stage.optimiser.clip or math.inf)
        if not math.isfinite(float(norm)):
            return False
        self.is_whole = False
        self.optimiser.step()
        self.model.after_step()
        self.average.update(self.model)
        self.is_whole = True
        return True

    def restart_from_average(self, content: Mapping[str, Any] | None, state: State) -> None:
        """Restart from the average of a checkpoint, else the present one, with a new optimiser."""
        if content is not None:
            self._load_average(content)
        self.model.load_state_dict(self.average.module.state_dict())
        state.forget_losses()
        self.enter(self.config.stages.index(self.stage))

    def content(self) -> dict[str, Any]:
        """Return the contents for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "updates": self.average.updates,
            "optimiser": self.optimiser.state_dict(),
        }

    def resume(self, content: Mapping[str, Any], stage: int) -> None:
        """Continue in `stage` from a checkpoint."""
        self.model.load_state_dict(content["model"])
        self._load_average(content)
        self.enter(stage)
        self.optimiser.load_state_dict(content["optimiser"])

    def _load_average(self, content: Mapping[str, Any]) -> None:
        self.average.module.load_state_dict(content["average"])
        self.average.updates = content["updates"]


def _seed_of(seed: int, step: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
