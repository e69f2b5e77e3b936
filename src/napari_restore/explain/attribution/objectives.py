"""Objectives: scalar functions of the output in a box, which an attribution explains."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor

from napari_restore._plain_files import read_file
from napari_restore.errors import BadParameter, RestoreError, option
from napari_restore.explain.attribution.target import AttributionTarget, OutputBox
from napari_restore.models import resampled, run_script, unpacked

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
    digest: str = ""
    """SHA-256 of the code of one that the user wrote."""
    path: str | None = None
    """``FILE.py:function`` with an absolute path, where it is in a file."""

    once: str = ""
    """Of a function in memory, whose variables nobody knows: what no other call has."""

    @property
    def key(self) -> str:
        """What distinguishes it from others, also once the code has changed."""
        return " ".join(filter(None, (self.name, self.digest, self.once)))

    def __call__(self, y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        """Return D; raises `BadParameter` where one that the user wrote makes no number of numbers."""
        value = self.compute(y, x, counts)
        is_own = bool(self.digest)
        if is_own and not torch.isfinite(value) and bool(torch.isfinite(y).all()):
            raise BadParameter(
                f"The objective {self.name} returns {float(value.detach())} for an output of the path, "
                "whose values are all finite.",
                "Keep it off where it has no value, as (y + 1e-3).log() does at 0, or give another "
                f"{option('baseline')}.",
            )
        return value


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


def of_results(objective: Objective, target: AttributionTarget) -> Objective:
    """Return `objective` for results of `target` on the grid of the image, as `OnInputGrid` gives them.

    It is of the box on their own grid, and of the image on that by nearest neighbours. Itself where the
    two grids are one.
    """
    if target.output is None:
        return objective
    ratio, on_results, count = target.output.ratio, *_of_results(target, target.output)

    def compute(y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        y, x = unpacked(y, ratio)[on_results], resampled(x, ratio)[on_results]
        return objective(y, x, count(counts))

    # The map of the identity has no such results.
    return replace(objective, compute=compute, is_linear=False)


def counts_in_box(target: AttributionTarget, counts: Tensor) -> Tensor:
    """Return which pixels of the target's box count, (1, 1, h, w) on the results' grid, by those of the image."""
    height, width = target.result_box.shape
    if target.output is not None:
        counts = _of_results(target, target.output)[1](counts)
    return counts[..., :height, :width]


def _of_results(
    target: AttributionTarget, output: OutputBox
) -> tuple[tuple[Any, ...], Callable[[Tensor], Tensor]]:
    """Return where the objective's region lies in results on their own grid, and what counts there.

    The latter is a function of what counts of the image: no pixel outside of a polygon does.
    """
    region = output.objective_region
    where = (..., *region.within(target.objective_region.scale(output.ratio)))
    inside = None if target.polygon is None else target.polygon.inside(region)

    def count(counts: Tensor) -> Tensor:
        counts = resampled(counts, output.ratio)[where]
        return counts if inside is None else counts * torch.from_numpy(inside).to(counts.device)

    return where, count


OwnObjective = Callable[[Tensor], Tensor]
"""Of the output in the box, (1, C, h, w) in model range: one number, by operations of torch."""


def own_objective(given: object, *, trust: bool) -> Objective | None:
    """Return the objective that a function or ``FILE.py:function`` is; None for a name. Raises `BadParameter`."""
    if given is None or (isinstance(given, str) and not _script_of(given)):
        return None
    if isinstance(given, str):
        script, name = _script_of(given), given.rpartition(":")[2]
        # Code in a file runs only with `trust`.
        file = File(script).resolve()
        function = _function_in(file, name, trust=trust)
        digest = hashlib.sha256(read_file(file, 1 << 24)).hexdigest()
        called = f"{file.name}:{name}"
        return Objective(called, _one_number(function, called), False, 0, digest, f"{file}:{name}")
    if callable(given):
        called = getattr(given, "__qualname__", type(given).__qualname__)
        compute = _one_number(given, called)
        return Objective(called, compute, False, digest=_code_digest(given), once=uuid.uuid4().hex)
    raise BadParameter(
        "An objective is a name, a function of the output, or FILE.py:function.",
        f"Choose among {', '.join([*OBJECTIVES, 'channel:N'])}, or give a function.",
    )


def check_own(objective: Objective, y: Tensor) -> None:
    """Raise `BadParameter` for a function that gives no number with a gradient for `y`, (1, C, h, w)."""
    y = y.detach().requires_grad_(True)
    with torch.enable_grad():
        # Any values, for which it may have none: only those of the path count.
        objective.compute(y, y.detach(), torch.ones_like(y[:, :1]))


def _script_of(text: str) -> str:
    """Return the path of ``FILE.py:function``; "" for other text."""
    script = text.rpartition(":")[0]
    return script if script.lower().endswith(".py") else ""


def _function_in(file: File, name: str, *, trust: bool) -> OwnObjective:
    if not file.is_file():
        raise BadParameter(f"There is no file {file}.", "Write FILE.py:function.")
    if not trust:
        raise BadParameter(
            f"{file.name} is Python code.",
            f"It can do anything on this machine: use it, with {option('trust', True)}, only if you "
            "trust its author.",
        )
    try:
        with run_script(file) as module:
            function = getattr(module, name, None)
    except (Exception, SystemExit) as error:
        raise _failed(file.name, error) from error
    if not callable(function):
        raise BadParameter(f"{file.name} has no function {name!r}.", "Write FILE.py:function.")
    found: OwnObjective = function
    return found


def _failed(name: str, error: BaseException) -> BadParameter:
    kind, *lines = type(error).__name__, *str(error).strip().splitlines()
    reason = f"{kind}: {lines[0].rstrip('.')}" if lines else kind
    return BadParameter(f"{name} fails: {reason}.", "Check its code.")


def _one_number(
    function: Callable[[Tensor], object], name: str
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def compute(y: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        try:
            value = function(y)
        except RestoreError:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(name, error) from error
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            returned = repr(value)
            if isinstance(value, Tensor):
                returned = "a complex one" if value.numel() == 1 else f"shape {tuple(value.shape)}"
            raise BadParameter(
                f"The objective {name} returns no single number but {returned}.",
                "Return a tensor of one element, as y.mean() is.",
            )
        if y.requires_grad and not value.requires_grad:
            raise BadParameter(
                f"What the objective {name} returns has no gradient.",
                "Compute it from the output by operations of torch.",
            )
        return value.reshape(())

    return compute


def _code_digest(function: Callable[..., object]) -> str:
    """Return the SHA-256 of a function's source, else of its name and byte code."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = repr(function) if code is None else f"{function.__qualname__} {code.co_code!r}"
    return hashlib.sha256(text.encode()).hexdigest()


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
