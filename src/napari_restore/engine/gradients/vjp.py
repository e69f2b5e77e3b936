"""Vector-Jacobian products with `torch.autograd`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def vjp(
    outputs: Sequence[Tensor], by_outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return ∂D/∂ of each of `inputs`, zeros where D depends on none, by those of `outputs`; frees their graph."""
    return torch.autograd.grad(_end(outputs, by_outputs), list(inputs), materialize_grads=True)


def vjp_of_used(
    outputs: Sequence[Tensor], by_outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return what `vjp` does, but None for inputs that no output depends on."""
    used = [n for n, output in enumerate(outputs) if output.requires_grad]
    if not used:
        return [None] * len(inputs)
    end = _end([outputs[n] for n in used], [by_outputs[n] for n in used])
    return list(torch.autograd.grad(end, list(inputs), allow_unused=True))


def _end(outputs: Sequence[Tensor], by_outputs: Sequence[Tensor]) -> Tensor:
    # Passed to `torch.autograd.grad` the gradients make it load sympy: half a second and 30 MiB.
    with torch.enable_grad():
        end: Tensor = _End.apply(*outputs, *by_outputs)  # type: ignore[no-untyped-call]
    return end


class _End(torch.autograd.Function):
    """A scalar whose gradients by the first half of its arguments are the other half."""

    @staticmethod
    def forward(ctx: Any, *both: Tensor) -> Tensor:
        ctx.save_for_backward(*both[len(both) // 2 :])
        return both[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        return (*saved, *[None] * len(saved))
