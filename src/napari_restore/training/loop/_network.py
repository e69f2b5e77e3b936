"""The network to be trained: made, started, and set up for a stage."""

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
from napari_restore.models import RestorationModel, StagedModel, entry_of, fill, read_state, resolve
from napari_restore.training.loop._config import ModelConfig
from napari_restore.training.loop._stages import OptimiserConfig


def make_network(config: ModelConfig, seed: int) -> RestorationModel:
    """The network of [model] on the CPU, float32, ready to be trained.

    It starts with the given weights, or with its own start drawn from `seed`. Raises
    `UnknownModel`, `BadParameter`, `MissingWeights`, `BadModel`.
    """
    entry = entry_of(config.id)
    card = replace(entry.card, values=entry.card.fill(config.parameters))
    state = None if config.weights is None else entry.renamed(read_state(config.weights))
    read = resolve(entry.sizes)(state) if entry.sizes and state is not None else {}
    # Not the caller's generator: what he draws later must not hang on a network's size.
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
    """Places every grid of tokens at a random origin, drawn from torch's generator.

    So crops are shown the places of larger images.
    """

    def __init__(self, model: Any, limit: int) -> None:
        self._place, self._limit = model.place_tokens, limit

    def __call__(self, grid: Tensor) -> Tensor:
        y, x = torch.randint(self._limit + 1, (2,)).tolist()
        placed: Tensor = self._place(grid, (y, x))
        return placed


def set_up_staged(model: RestorationModel, config: ModelConfig) -> None:
    """Apply the options of [model] that hold while a staged network is trained.

    Raises `BadParameter` where the network does not have what they change.
    """
    asked = {
        "exact_below": config.exact_below is not None,
        "random_origin": config.random_origin > 0,
        "checkpointing": config.checkpointing,
    }
    hashed: list[Any] = [part for part in model.modules() if hasattr(part, "exact_below")]
    able = {"exact_below": bool(hashed), "random_origin": bool(hashed)}
    for name in asked:
        if asked[name] and not (isinstance(model, StagedModel) and able.get(name, True)):
            raise BadParameter(
                f"[model] {name} means nothing to {config.id}.", "Leave it out of the table."
            )
    if config.exact_below is not None:
        for part in hashed:
            part.exact_below = config.exact_below
    changed: Any = model
    if config.random_origin > 0:
        changed.place_tokens = RandomOrigin(model, config.random_origin)
    if config.checkpointing:
        # Without reentry: else the first pass has no gradients, and experts no balance.
        for name in ("encode", "bottleneck_layer", "decode"):
            again = partial(checkpoint, getattr(model, name), use_reentrant=False)
            setattr(changed, name, again)


def choose_parameters(model: nn.Module, patterns: Sequence[str]) -> int:
    """Let only parameters whose names begin with a pattern be trained; all if there is none.

    Returns how many numbers that are. Raises `BadParameter` for a pattern that fits none.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(re.match(pattern, name) for name in names):
            raise BadParameter(
                f"train_only {pattern!r} fits no parameter.",
                f"Names begin with {', '.join(sorted({n.partition('.')[0] for n in names}))}.",
            )
    for name, parameter in model.named_parameters():
        chosen = not patterns or any(re.match(pattern, name) for pattern in patterns)
        parameter.requires_grad_(chosen)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over what is to be trained; only matrices and kernels decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=config.lr, betas=config.betas)
