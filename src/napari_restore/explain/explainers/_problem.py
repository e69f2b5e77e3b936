"""What a method that goes along no path is given, and what it must be.

It shows pictures of its own to the model and is told D of each, with its gradient. Everything
else – bands, range, what counts, statistics of the whole image, memory – is as for paths.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_restore.engine import Progress, Region
from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.explain._attribution_run import AttributionRun, Emit
from napari_restore.explain._baselines import InMemory


class Problem:
    """An image, and a number D of every picture of its size.

    Pixels that do not count stay as they are in the image, whatever a picture holds there, and
    have no gradient.
    """

    image: Tensor
    """(1, C, h, w) float32 in model range: the pixels that D can depend on."""
    region: Region
    """Where they lie, in level-0 pixels."""
    box: Region
    """The box of the output that D is a number of, in level-0 pixels."""
    valid: Tensor | None
    """(1, 1, h, w) bool which pixels count; None where all do."""

    def __init__(self, run: AttributionRun, baseline: Tensor | None, emit: Emit) -> None:
        self.region, self.box = run.region, run.box
        self.image = run.image(self.region)
        self.valid = run.valid(self.region)
        self._attribution_run, self._baseline, self._emit = run, baseline, emit
        self._began = time.perf_counter()
        self._done = self._total = 0

    @property
    def baseline(self) -> Tensor:
        """(1, C, h, w) a picture without what is asked about: what ``--baseline`` names."""
        assert self._baseline is not None, "it is registered as taking no baseline"
        return self._baseline

    def expect(self, pictures: int) -> None:
        """Say how many pictures will be shown in all, for the time left."""
        self._total = pictures

    def objective(self, pictures: Tensor) -> Tensor:
        """(N,) D of (N, C, h, w) pictures in model range, with gradients of first order.

        Raises `Cancelled` between pictures when the work is to stop.
        """
        values = []
        for number in range(len(pictures)):
            x = pictures[number : number + 1]
            if self.valid is not None:
                x = x.where(self.valid, self.image)
            value: Tensor = _Value.apply(x, self._ask)  # type: ignore[no-untyped-call]
            values.append(value)
        return torch.stack(values)

    def _ask(self, x: Tensor, wants_gradient: bool) -> tuple[float, Tensor | None]:
        self._attribution_run.source.check()
        path = _Still(InMemory(self.region, x))
        if not wants_gradient:
            found: tuple[float, Tensor | None] = self._attribution_run.value(path, 0.0), None
        else:
            gradient = torch.zeros_like(x)

            def add(box: Region, part: Tensor) -> None:
                gradient[(..., *box.within(self.region))] += part

            found = self._attribution_run.node(path, 0.0, (add, add)).value, gradient
        self._done += 1
        total = max(self._total, self._done)
        spent = time.perf_counter() - self._began
        self._emit(Progress(self._done, total, spent / self._done * (total - self._done)))
        return found


class _Still:
    """A path that stays where it is, at a speed of 1: then speed times gradient is the gradient."""

    name = "still"

    def __init__(self, picture: InMemory) -> None:
        self._picture = picture

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture = self._picture(box)
        return picture, torch.ones_like(picture)


class _Value(torch.autograd.Function):
    """D of one picture, whose gradient is computed along with it: tile by tile, with no graph left."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ask: Callable[..., tuple[float, Tensor | None]]) -> Tensor:
        value, gradient = ask(x.detach(), ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return x.new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_value: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * by_value, None


@dataclass(frozen=True)
class Explainer:
    """A method that goes along no path. Packages offer it, or the function alone."""

    function: Callable[..., Tensor]
    """``(asked, **arguments) -> map`` (1, C, h, w): the share of every value of `asked.image`."""
    source: str = ""
    """Where it was published, for the record."""
    takes_baseline: bool = True
    """Whether the function looks at `asked.baseline`."""
    is_complete: bool = False
    """Whether its shares are to add up to D(x) − D(x′)."""
    images_in_memory: int = 16
    """Bytes per value of the image that it holds at a time."""
    at_a_time: str = ""
    """The argument, if any, that says for how many pictures it holds them."""
    package: str = ""
    """The distribution that it comes from, whose version the record tells; ours if empty."""
    parameters: Mapping[str, inspect.Parameter] | None = None
    """Of its arguments, where the function's signature does not tell them."""

    def arguments(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of the function; raises `BadParameter` for what it does not take.

        `name` is what the user calls it. Lists become tuples, as JSON has no tuples.
        """
        known = self.known()
        for key in given:
            if key not in known:
                hint = did_you_mean(key, list(known), "Its arguments")
                raise BadParameter(f"Method {name} takes no argument {key!r}.", hint)
        for key, parameter in known.items():
            if parameter.default is parameter.empty and key not in given:
                raise BadParameter(f"Method {name} needs {key}.", f"Add --argument {key}=VALUE.")
        return {key: _tuples(given.get(key, p.default)) for key, p in known.items()}

    def known(self) -> dict[str, inspect.Parameter]:
        """The arguments that there are, by name."""
        known = self.parameters
        if known is None:
            known = dict(list(inspect.signature(self.function).parameters.items())[1:])
        return {key: p for key, p in known.items() if p.kind is not p.VAR_KEYWORD}

    def bytes(self, arguments: Mapping[str, Any]) -> int:
        """Per value of the image, with these arguments."""
        count = arguments.get(self.at_a_time)
        return self.images_in_memory * max(1, count if isinstance(count, int) else 1)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
