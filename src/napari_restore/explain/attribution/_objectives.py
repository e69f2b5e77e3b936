"""Objectives: scalar functions of the output in a box, which an attribution explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_restore.errors import BadParameter

EPSILON = 1e-12
"""Added under the root of a gradient's magnitude, whose derivative is unbounded at 0."""


@dataclass(frozen=True)
class Objective:
    """A number D of the output y and the input x in the box, both (1, C, h, w) in model range.

    `counts` (1, 1, h, w) is 1 for pixels that count and 0 for others, as outside of a polygon.
    """

    name: str
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(y, x, counts) → a scalar, with gradients."""
    is_linear: bool
    """Whether D is linear in y: then the identity share of a map can be computed."""
    beyond: int = 0
    """Pixels below and right of the box that it reads."""

    def __call__(self, y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        return self.compute(y, x, counts)


def objective_of(text: str, bands: int) -> Objective:
    """Return the objective of a name for a model with `bands` bands; raises `BadParameter`.

    - ``change``: mean of y − x: the model's change, without the input passed unchanged.
    - ``mean``: mean of y. ``sum``: its sum, as in the paper on DAM.
    - ``channel:N``: mean of band N of y, counted from 1.
    - ``gradient``: sum over pixels and bands of the magnitude of the gradient of y, by differences
      to the pixel below and to the right (LAM, Gu and Dong, CVPR 2021).
    - ``mean+variance``: mean and unbiased variance of y, as in the public code of DAM.
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
    """Return the mean of the pixels that count, over all bands."""
    return (values * counts).sum() / (counts.sum() * values.shape[1]).clamp(min=1)


def _gradient(y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Return the sum of gradient magnitudes by forward differences."""
    inner = y[..., :-1, :-1]
    below, right = y[..., 1:, :-1] - inner, y[..., :-1, 1:] - inner
    # Differences to pixels that do not count are left out.
    whole = counts[..., :-1, :-1] * counts[..., 1:, :-1] * counts[..., :-1, 1:]
    return ((below.square() + right.square() + EPSILON).sqrt() * whole).sum()


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
"""Objectives by name; ``channel:N`` is created by `objective_of`."""


def derivative(
    objective: Objective, y: Tensor, x: Tensor, counts: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Return D, ∂D/∂y and ∂D/∂x; `y` and `x` are detached from their graphs."""
    y, x = y.detach().requires_grad_(True), x.detach().requires_grad_(True)
    with torch.enable_grad():
        value = objective(y, x, counts)
        by_y, by_x = torch.autograd.grad(value, (y, x), materialize_grads=True)
    return float(value.detach()), by_y, by_x
