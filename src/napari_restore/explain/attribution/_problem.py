"""Methods that are not path integrals: their input and their description.

A method evaluates D, with its gradient, for images of its own. Everything else – bands, range, valid
pixels, statistics of the whole image, memory – is as for paths.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_restore._format import format_seconds
from napari_restore.engine import Emit, Note, Progress, Region
from napari_restore.errors import BadParameter, did_you_mean, option
from napari_restore.explain.attribution._layer import AttributedLayer
from napari_restore.explain.attribution._segments import Segments
from napari_restore.explain.attribution.attribution_run import AttributionRun
from napari_restore.explain.attribution.baselines import InMemory


class Problem:
    """An image, and the objective D of every image of its size.

    Pixels that do not count keep their value in the image, whatever is passed for them, and have no
    gradient.
    """

    image: Tensor
    """(1, C, h, w) float32 in model range: the pixels that D can depend on."""
    region: Region
    """Where they lie, in level-0 pixels."""
    box: Region
    """The box of the output that D is a number of, in level-0 pixels."""
    valid: Tensor | None
    """(1, 1, h, w) bool which pixels count; None where all do."""

    segments: Tensor | None
    """(1, 1, h, w) int64 which segment a pixel is in, from 1; 0: in none, where the baseline is the
    image. None: every pixel may have a share of its own."""

    def __init__(
        self,
        run: AttributionRun,
        baseline: Tensor | None,
        emit: Emit,
        layer: AttributedLayer | None,
        segments: Segments | None,
    ) -> None:
        self._run, self._layer, self._emit = run, layer, emit
        self._maps: list[tuple[Tensor, Tensor]] = []
        self.region, self.box = run.region, run.box
        self.image, self.valid = run.image(self.region), run.valid(self.region)
        self.segments = None if segments is None else segments.tensor(self.image)
        if baseline is not None and self.segments is not None:
            baseline = baseline.where(self.segments > 0, self.image)
        self._baseline = baseline
        self._began = time.perf_counter()
        self._done = self._total = 0

    @property
    def baseline(self) -> Tensor:
        """Baseline image, (1, C, h, w) float32 in model range."""
        assert self._baseline is not None, "it is registered as taking no baseline"
        return self._baseline

    @property
    def evaluations(self) -> int:
        """How often D has been computed."""
        return self._done

    def expect(self, evaluations: int) -> None:
        """Announce the total number of evaluations, for the progress."""
        self._total = evaluations

    def objective(self, images: Tensor) -> Tensor:
        """Return D of (N, C, h, w) images in model range, (N,), with first-order gradients; raises `Cancelled`."""
        values = []
        for number in range(len(images)):
            x = self._counted(images[number : number + 1])
            value: Tensor = _ObjectiveFunction.apply(x, self._evaluate)  # type: ignore[no-untyped-call]
            values.append(value)
        return torch.stack(values)

    def ends(self) -> list[float]:
        """Return D of baseline and image; of a layer both see the image beside it."""
        ends = torch.cat([self.baseline, self.image])
        if not self.is_of_layer:
            return [float(value) for value in self.objective(ends)]
        beside = self.image.expand(2, -1, -1, -1)
        return [float(value) for value in self.layer_objective(beside, self.layer_map(ends))]

    # -- a layer ---------------------------------------------------------------------------

    @property
    def is_of_layer(self) -> bool:
        """Whether shares are of the cells of a layer, and not of the pixels."""
        return self._layer is not None

    @property
    def layer(self) -> AttributedLayer:
        """The layer that is attributed to."""
        assert self._layer is not None, "it is registered as of no layer"
        return self._layer

    def layer_map(self, images: Tensor) -> Tensor:
        """Return what the layer puts out for images (N, C, h, w): (N, K, rows, columns), no gradient."""
        return torch.cat([self._layer_map(x) for x in torch.split(images.detach(), 1)])

    def _layer_map(self, x: Tensor) -> Tensor:
        known = [self.image, *([] if self._baseline is None else [self._baseline])]
        for image, cells in self._maps:
            if torch.equal(image, x):
                return cells
        cells = self.layer.map_of(self._counted(x))
        # Methods come back to the ends of their path at every point.
        self._maps += [(image, cells) for image in known if torch.equal(image, x)][:1]
        return cells

    def layer_objective(self, images: Tensor, maps: Tensor) -> Tensor:
        """Return D (N,) of images with `maps` in place of what the layer puts out.

        The gradient is that of first order by `maps`; what does not go through the layer sees `images`.
        """
        values: list[Tensor] = []
        for x, cells in zip(torch.split(images.detach(), 1), torch.split(maps, 1), strict=True):
            evaluate = partial(self._evaluate_layer, self._counted(x))
            value: Tensor = _ObjectiveFunction.apply(cells, evaluate)  # type: ignore[no-untyped-call]
            values.append(value)
        return torch.stack(values)

    def _evaluate_layer(
        self, x: Tensor, cells: Tensor, needs_gradient: bool
    ) -> tuple[float, Tensor | None]:
        self._run.source.check()
        result = self.layer.value(x, cells, needs_gradient)
        self._report()
        return result

    # -- evaluations -----------------------------------------------------------------------

    def _counted(self, x: Tensor) -> Tensor:
        """Return an image (1, C, h, w) with its own values where pixels do not count."""
        return x if self.valid is None else x.where(self.valid, self.image)

    def _evaluate(self, x: Tensor, needs_gradient: bool) -> tuple[float, Tensor | None]:
        """Return D of (1, C, h, w), and its gradient if needed; emit `Progress`."""
        self._run.source.check()
        path = ConstantPath(InMemory(self.region, x))
        if not needs_gradient:
            result: tuple[float, Tensor | None] = self._run.value(path, 0.0), None
        else:
            gradient = torch.zeros_like(x)

            def add(box: Region, part: Tensor) -> None:
                gradient[(..., *box.within(self.region))] += part

            result = self._run.node(path, 0.0, (add, add)).value, gradient
        self._report()
        return result

    def _report(self) -> None:
        self._done += 1
        total = max(self._total, self._done)
        spent = time.perf_counter() - self._began
        if self._done == 1 and self.segments is not None:
            self._emit(Note(f"{total} evaluations of D, about {format_seconds(spent * total)}."))
        self._emit(Progress(self._done, total, spent / self._done * (total - self._done)))


class ConstantPath:
    """A path of one image with speed 1, along which gradient times speed is the gradient."""

    name = "still"

    def __init__(self, picture: InMemory) -> None:
        self._picture = picture

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture = self._picture(box)
        return picture, torch.ones_like(picture)


class _ObjectiveFunction(torch.autograd.Function):
    """D of one image; its gradient is computed tile by tile in `forward`, without a graph."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, evaluate: Callable[..., tuple[float, Tensor | None]]
    ) -> Tensor:
        value, gradient = evaluate(x.detach(), ctx.needs_input_grad[0])
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
    """A method that is not a path integral; packages register it, or the function alone."""

    function: Callable[..., Tensor]
    """``(problem, **arguments) -> map``, (1, C, h, w): the share of every value of `problem.image`."""
    source: str = ""
    """Publication, for the record."""
    takes_baseline: bool = True
    """Whether the function uses `problem.baseline`."""
    is_complete: bool = False
    """Whether its shares should sum to D(x) − D(x′)."""
    value_bytes: int = 16
    """Memory in bytes per value of the image and image of a batch."""
    batch_argument: str = ""
    """Name of the argument for the batch size, if any."""
    patch_arguments: tuple[str, ...] = ()
    """Names of the arguments for patches of pixels, whose place segments take."""
    of_layer: bool = False
    """Whether it is of a layer, by `problem.layer_map` and `problem.layer_objective`: its map then is
    (1, any, rows, columns), and its argument ``interpolation`` the way to pixels."""
    package: str = ""
    """Distribution whose version the record states; empty for built-in methods."""
    parameters: Mapping[str, inspect.Parameter] | None = None
    """Its parameters, where they differ from the function's signature."""

    def arguments(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults filled in; raises `BadParameter` for unknown or missing ones."""
        parameters = self.all_parameters()
        for key in arguments:
            if key not in parameters:
                hint = did_you_mean(key, list(parameters), "Its arguments")
                raise BadParameter(f"Method {name} takes no argument {key!r}.", hint)
        for key, parameter in parameters.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise BadParameter(
                    f"Method {name} needs {key}.", f"Add {option('arguments', {key: 'VALUE'})}."
                )
        return {key: _tuples(arguments.get(key, p.default)) for key, p in parameters.items()}

    def of_segments(self) -> Explainer:
        """Return the method without arguments for patches."""
        parameters = self.all_parameters()
        left = {key: p for key, p in parameters.items() if key not in self.patch_arguments}
        return replace(self, parameters=left)

    def all_parameters(self) -> dict[str, inspect.Parameter]:
        """Return the parameters of the function by name."""
        parameters = self.parameters
        if parameters is None:
            parameters = dict(list(inspect.signature(self.function).parameters.items())[1:])
        return {key: p for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD}

    def bytes(self, arguments: Mapping[str, Any]) -> int:
        """Return the memory in bytes per value of the image, with these arguments."""
        count = arguments.get(self.batch_argument)
        return self.value_bytes * max(1, count if isinstance(count, int) else 1)


def _tuples(value: Any) -> Any:
    """Convert lists to tuples, recursively."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def version_of(package: str) -> str:
    """Return the version of a distribution, ``"unknown"`` if it is not installed as one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
