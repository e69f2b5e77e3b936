"""Network, weight average, optimiser and schedule of a run, and a single training step."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_restore.extension import (
    BadParameter,
    BottleneckModel,
    RestorationModel,
    entry_of,
    fill,
    load,
    read_state,
    resolve,
)
from napari_restore_lab.loop._checkpoint import State
from napari_restore_lab.loop._config import (
    Every,
    ModelConfig,
    OptimiserConfig,
    TrainConfig,
    TrainingStage,
)
from napari_restore_lab.loop._losses import objective_of

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
        self.model = make_network(config.model, config.run.seed, trust=config.trust)
        for stage in config.stages:
            # Invalid patterns of any stage raise before the training.
            choose_parameters(self.model.weighted, stage.train_only)
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
        choose_parameters(self.model.weighted, self.stage.train_only)
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


class Average:
    """Exponential moving average of a network; float32, for scoring and saving.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the random
    start is forgotten quickly. Buffers are those of the network. What weights must satisfy after a
    step (`RestorationModel.after_step`), the average satisfies as well.
    """

    def __init__(self, module: RestorationModel, decay: float) -> None:
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: RestorationModel) -> None:
        """Update the average with `module`."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(module.named_parameters())
        for name, averaged in self.module.named_parameters():
            averaged.lerp_(parameters[name].detach().float(), share)
        buffers = dict(module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])
        self.module.after_step()


def make_network(config: ModelConfig, seed: int, *, trust: bool = False) -> RestorationModel:
    """Create the network of [model] on the CPU, float32, in training mode.

    Its weights are the given ones, or initialised from `seed`. `trust` lets the code of a factory run.
    Raises `UnknownModel`, `BadParameter`, `MissingWeights`, `BadModel`.
    """
    # Forked, so that the caller's random state does not depend on the network's size.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.factory is None:
            model = _of_registry(config)
        else:
            model = load(
                config.factory, weights=config.weights, parameters=config.parameters, trust=trust
            )
            _check_own(model)
    if not any(True for _ in model.parameters()):
        raise BadParameter(f"[model] {config.name} has nothing to train.", "Choose a network.")
    for name, path in config.parts.items():
        part = dict(model.weighted.named_modules()).get(name) if name else None
        if part is None:
            raise BadParameter(
                f"[model] parts: {config.name} has no part {name!r}.",
                f"It has {', '.join(n for n, _ in model.weighted.named_children())}.",
            )
        fill(part, read_state(path), path.name)
    return model.float().train().requires_grad_(True)


def _check_own(model: RestorationModel) -> None:
    """Raise `BadParameter` for a network of one's own that no pair of pictures fits."""
    card = model.card
    if card.ratio != 1:
        raise BadParameter(
            f"[model] {card.id} gives results of another size: scale {card.ratio}. Training compares "
            "pictures of one size.",
            "Choose another network.",
        )
    if card.bands not in (None, 3):
        bands = f"{card.bands} band{'s' if card.bands != 1 else ''}"
        raise BadParameter(
            f"[model] {card.id} takes {bands}, and pictures have 3.", "Choose one for 3 bands."
        )


def _of_registry(config: ModelConfig) -> RestorationModel:
    entry = entry_of(config.id)
    card = replace(entry.card, values=entry.card.fill(config.parameters))
    state = None if config.weights is None else entry.renamed(read_state(config.weights))
    read = resolve(entry.sizes)(state) if entry.sizes and state is not None else {}
    try:
        model: RestorationModel = resolve(entry.factory)(card, **{**read, **config.sizes})
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadParameter(
            f"[model] sizes do not make {config.id}: {error}.", "Leave them out for its own."
        ) from None
    if state is not None and config.weights is not None:
        fill(model.weighted, state, config.weights.name)
    return model


class RandomOrigin:
    """Offsets every grid of tokens by a random origin, from the generator of torch.

    Crops then have the positions of larger images.
    """

    def __init__(self, model: Any, limit: int) -> None:
        self._place, self._limit = model.place_tokens, limit

    def __call__(self, grid: Tensor) -> Tensor:
        y, x = torch.randint(self._limit + 1, (2,)).tolist()
        placed: Tensor = self._place(grid, (y, x))
        return placed


def set_up_staged(model: RestorationModel, config: ModelConfig) -> None:
    """Apply the training options of [model] for staged networks.

    Raises `BadParameter` where the network does not support them.
    """
    requested = {
        "exact_below": config.exact_below is not None,
        "random_origin": config.random_origin > 0,
        "checkpointing": config.checkpointing,
    }
    hashed: list[Any] = [part for part in model.modules() if hasattr(part, "exact_below")]
    supported = {"exact_below": bool(hashed), "random_origin": bool(hashed)}
    for name in requested:
        if requested[name] and not (
            isinstance(model, BottleneckModel) and supported.get(name, True)
        ):
            raise BadParameter(
                f"[model] {name} has no effect on {config.name}.", "Leave it out of the table."
            )
    if config.exact_below is not None:
        for part in hashed:
            part.exact_below = config.exact_below
    network: Any = model
    if config.random_origin > 0:
        network.place_tokens = RandomOrigin(model, config.random_origin)
    if config.checkpointing:
        # Non-reentrant: the reentrant variant runs the first pass without gradients, which experts need.
        for name in ("encode", "bottleneck_layer", "decode"):
            checkpointed = partial(checkpoint, getattr(model, name), use_reentrant=False)
            setattr(network, name, checkpointed)


def choose_parameters(model: nn.Module, patterns: Sequence[str]) -> int:
    """Train only parameters whose names begin with a pattern; all without patterns.

    Returns the number of trained values. Raises `BadParameter` for a pattern without a match.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(re.match(pattern, name) for name in names):
            raise BadParameter(
                f"train_only {pattern!r} matches no parameter.",
                f"Names begin with {', '.join(sorted({n.partition('.')[0] for n in names}))}.",
            )
    for name, parameter in model.named_parameters():
        chosen = not patterns or any(re.match(pattern, name) for pattern in patterns)
        parameter.requires_grad_(chosen)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return AdamW over the trained parameters, with weight decay of matrices and kernels only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    nonempty = [group for group in groups if group["params"]]
    return torch.optim.AdamW(nonempty, lr=config.lr, betas=config.betas)


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
