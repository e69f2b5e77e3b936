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
    """Return ∂D/∂ of each of `inputs`, of its shape; zeros for those that no output depends on.

    `by_outputs` are ∂D/∂ of `outputs`, of their shapes. The graph of `outputs` is freed.
    """
    # Passed to `torch.autograd.grad` they make it load sympy: half a second and 30 MiB.
    with torch.enable_grad():
        end: Tensor = _End.apply(*outputs, *by_outputs)  # type: ignore[no-untyped-call]
    return torch.autograd.grad(end, list(inputs), materialize_grads=True)


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
