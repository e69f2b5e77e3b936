"""Creates the network, initialises it, and selects the parameters of a stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_restore.errors import BadParameter
from napari_restore.models import (
    BottleneckModel,
    RestorationModel,
    entry_of,
    fill,
    read_state,
    resolve,
)
from napari_restore.training.loop._config import ModelConfig
from napari_restore.training.loop._stages import OptimiserConfig


def make_network(config: ModelConfig, seed: int) -> RestorationModel:
    """Create the network of [model] on the CPU, float32, in training mode.

    Its weights are the given ones, or initialised from `seed`. Raises
    `UnknownModel`, `BadParameter`, `MissingWeights`, `BadModel`.
    """
    entry = entry_of(config.id)
    card = replace(entry.card, values=entry.card.fill(config.parameters))
    state = None if config.weights is None else entry.renamed(read_state(config.weights))
    read = resolve(entry.sizes)(state) if entry.sizes and state is not None else {}
    # Forked, so that the caller's random state does not depend on the network's size.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: RestorationModel = resolve(entry.factory)(card, **{**read, **config.sizes})
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadParameter(
                f"[model] sizes do not make {config.id}: {error}.", "Leave them out for its own."
            ) from None
    if not any(True for _ in model.parameters()):
        raise BadParameter(f"[model] id = {config.id!r} has nothing to train.", "Choose a network.")
    if state is not None and config.weights is not None:
        fill(model, state, config.weights.name)
    for name, path in config.parts.items():
        part = dict(model.named_modules()).get(name) if name else None
        if part is None:
            raise BadParameter(
                f"[model] parts: {config.id} has no part {name!r}.",
                f"It has {', '.join(n for n, _ in model.named_children())}.",
            )
        fill(part, read_state(path), path.name)
    return model.float().train().requires_grad_(True)


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
                f"[model] {name} has no effect on {config.id}.", "Leave it out of the table."
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
