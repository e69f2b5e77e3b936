"""What is asked of the pixels in a box: one number, whose causes an attribution shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_restore.errors import BadParameter

ROUNDED = 1e-12
"""Added under the root of a gradient's length, whose slope at 0 has no bound."""


@dataclass(frozen=True)
class Objective:
    """A number D of the output y and the input x in the box, both (1, C, h, w) in model range.

    `counts` (1, 1, h, w) is 1 for pixels that count and 0 for others, as outside of a polygon.
    """

    name: str
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(y, x, counts) → a scalar, with gradients."""
    is_linear: bool
    """Whether D is linear in y: then what of a map is the input's own share can be told."""
    beyond: int = 0
    """Pixels below and right of the box that it looks at."""

    def __call__(self, y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        return self.compute(y, x, counts)


def objective_of(text: str, bands: int) -> Objective:
    """The objective of a name, for a model of so many bands; raises `BadParameter`.

    - ``change``: mean of y − x. What the model does, not what passes it by.
    - ``mean``: mean of y. ``sum``: its sum, as in the paper on DAM.
    - ``channel:N``: mean of band N of y, counted from 1.
    - ``gradient``: sum over pixels and bands of the length of the gradient of y, by differences
      to the pixel below and to the right (LAM, Gu and Dong, CVPR 2021).
    - ``mean+variance``: mean and unbiased variance of y, as the code that came with DAM has it.
    """
    name, _, number = text.partition(":")
    if name == "channel":
        if not number.isdecimal() or not 1 <= int(number) <= bands:
            raise BadParameter(
                f"There is no band {number or '(none)'} among the {bands} that the model sees.",
                f"Write channel:1 to channel:{bands}.",
            )
        band = int(number) - 1
        return Objective(text, lambda y, x, n: _mean(y[:, band : band + 1], n), True)
    if text not in OBJECTIVES:
        names = ", ".join([*OBJECTIVES, "channel:N"])
        raise BadParameter(f"There is no objective {text!r}.", f"Choose among {names}.")
    return OBJECTIVES[text]


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum() / (counts.sum() * values.shape[1]).clamp(min=1)


def _gradient(y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    here = y[..., :-1, :-1]
    below, right = y[..., 1:, :-1] - here, y[..., :-1, 1:] - here
    # A step to a pixel that does not count is no edge.
    whole = counts[..., :-1, :-1] * counts[..., 1:, :-1] * counts[..., :-1, 1:]
    return ((below.square() + right.square() + ROUNDED).sqrt() * whole).sum()


def _mean_and_variance(y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    mean = _mean(y, counts)
    number = counts.sum() * y.shape[1]
    variance = ((y - mean).square() * counts).sum() / (number - 1).clamp(min=1)
    return mean + variance


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("change", lambda y, x, n: _mean(y - x, n), True),
        Objective("mean", lambda y, x, n: _mean(y, n), True),
        Objective("sum", lambda y, x, n: (y * n).sum(), True),
        Objective("gradient", _gradient, False, beyond=1),
        Objective("mean+variance", _mean_and_variance, False),
    )
}
"""Objectives by name; ``channel:N`` is made when it is asked for."""


def derivative(
    objective: Objective, y: Tensor, x: Tensor, counts: Tensor
) -> tuple[float, Tensor, Tensor]:
    """D, ∂D/∂y and ∂D/∂x; `y` and `x` are taken for values, without what they came from."""
    y, x = y.detach().requires_grad_(True), x.detach().requires_grad_(True)
    with torch.enable_grad():
        value = objective(y, x, counts)
        by_y, by_x = torch.autograd.grad(value, (y, x), materialize_grads=True)
    return float(value.detach()), by_y, by_x
