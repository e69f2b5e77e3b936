"""Attribution methods of captum, applied to D as a function of the pixels, or of what a layer puts out.

Methods that only evaluate D and its gradient run: gradients, Shapley values, ablations, and those of
them that are of one layer. Methods that modify the network do not, as D is more than one network
(tiles, statistics, radiometry).
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore.errors import BadParameter, did_you_mean, option
from napari_restore.explain.attribution._layer import INTERPOLATIONS, NEAREST
from napari_restore.explain.attribution._problem import Explainer, Problem

PREFIX = "captum:"
SQUARE = 16
"""Default side in pixels of the squares that form one feature, for methods with features."""
BYTES = 32
"""Bytes per value and image of a batch: image, baseline, gradient, temporaries."""
WINDOW_ARGUMENTS = {"sliding_window_shapes", "strides"}
"""Arguments with one value each for bands, rows and columns."""
MOST_ORDERED = 8
"""Most squares for exact Shapley values over all orders: 8 have 40 320."""
COMPLETE = {
    *("IntegratedGradients", "GradientShap"),
    *("ShapleyValues", "ShapleyValueSampling", "KernelShap"),
    "LayerIntegratedGradients",
}
"""Methods whose shares should sum to D(x) − D(x′)."""
OF_LAYERS = (
    *("LayerGradCam", "LayerIntegratedGradients", "LayerActivation"),
    *("LayerGradientXActivation", "LayerConductance", "InternalInfluence"),
)
"""Methods of one layer that run."""
NEED_SEVERAL_IMAGES = {"FeaturePermutation"}
"""Methods that need several images."""
NEED_SKLEARN = {"KernelShap", "Lime"}
"""Methods that fit a linear model by scikit-learn: captum would notice that it is missing only after
all evaluations."""
BATCH_ARGUMENTS = ("internal_batch_size", "perturbations_per_eval", "n_samples")
"""Arguments for the batch size; the first that a method has counts. GradientShap evaluates all its
samples in one batch."""
RESERVED_ARGUMENTS = {
    *("self", "inputs", "baselines", "target", "additional_forward_args"),
    *("return_convergence_delta", "return_input_shape", "show_progress"),
    *("attribute_to_layer_input", "attr_dim_summation", "grad_kwargs"),
}
"""Arguments that are set here, not by the user."""
SQUARES = "feature_mask"
"""Argument that says which values are one feature."""
DEFAULTS: dict[str, Any] = {SQUARES: SQUARE, "internal_batch_size": 1}
"""Defaults in place of those of captum: every value a feature, and all steps in one batch."""


def explainer_of(name: str) -> Explainer:
    """Return the method ``captum:NAME``; raises `BadParameter` where it is missing or cannot run."""
    method = name.removeprefix(PREFIX)
    if importlib.util.find_spec("captum") is None:
        raise BadParameter(
            f"{method or 'This method'} is a method of captum, which is not installed.",
            'Install it: pip install "napari-restore[captum]".',
        )
    import captum.attr

    attributor = getattr(captum.attr, method, None) if method in captum.attr.__all__ else None
    if not (inspect.isclass(attributor) and hasattr(attributor, "attribute")):
        raise BadParameter(
            f"captum has no attributor {method!r}.",
            did_you_mean(method, runnable_names(), "Choose"),
        )
    if method in NEED_SEVERAL_IMAGES:
        raise BadParameter(
            f"{method} permutes pixels between images, but there is only one.",
            f"Choose among {', '.join(runnable_names())}.",
        )
    if not _can_run(attributor):
        raise BadParameter(
            f"{method} changes a network or reads several of its layers, but D is a function of the pixels, "
            "or of one layer.",
            f"Choose among {', '.join(runnable_names())}.",
        )
    if method in NEED_SKLEARN and importlib.util.find_spec("sklearn") is None:
        raise BadParameter(
            f"{method} fits a model by scikit-learn, which is not installed.",
            'Run pip install "napari-restore[captum]", which brings it.',
        )
    return described(method)


def described(name: str) -> Explainer:
    """Return the description of a method in `runnable_names`, also without its other requirements."""
    import captum.attr

    attributor = getattr(captum.attr, name)
    parameters = inspect.signature(attributor.attribute).parameters
    # It takes differences of neighbouring points.
    defaults = DEFAULTS | ({"internal_batch_size": 2} if name == "LayerConductance" else {})
    own = {"seed": 0, **({"interpolation": NEAREST} if name in OF_LAYERS else {})}
    added = {
        key: inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value)
        for key, value in own.items()
    }
    settings = {
        key: p.replace(default=defaults[key]) if key in defaults else p
        for key, p in parameters.items()
        if key not in RESERVED_ARGUMENTS
    }
    return Explainer(
        partial(_run_layer if name in OF_LAYERS else _run, attributor),
        f"{name} of captum, Kokhlikyan et al., 2020",
        takes_baseline="baselines" in parameters,
        is_complete=name in COMPLETE,
        value_bytes=BYTES,
        batch_argument=next((key for key in BATCH_ARGUMENTS if key in parameters), ""),
        patch_arguments=(SQUARES,) if SQUARES in parameters else (),
        of_layer=name in OF_LAYERS,
        package="captum",
        parameters={**settings, **added},
    )


def _can_run(attributor: Any) -> bool:
    """Return whether an attributor is constructed from a forward function alone."""
    if attributor.__name__ in OF_LAYERS:
        return True
    first, *others = list(inspect.signature(attributor.__init__).parameters.values())[1:]
    return first.name == "forward_func" and all(p.default is not p.empty for p in others)


def runnable_names() -> list[str]:
    """Return the names of the methods that can run, without `PREFIX`; captum must be installed."""
    import captum.attr

    classes = {name: getattr(captum.attr, name) for name in captum.attr.__all__}
    return [
        name
        for name, attributor in classes.items()
        if inspect.isclass(attributor)
        and "inputs" in inspect.signature(getattr(attributor, "attribute", len)).parameters
        and _can_run(attributor)
        and name not in NEED_SEVERAL_IMAGES
    ]


def _run(attributor: Any, problem: Problem, *, seed: int, **arguments: Any) -> Tensor:
    """Return the map of an attributor class, (1, C, h, w)."""
    from captum.attr import GradientAttribution

    for name in WINDOW_ARGUMENTS & arguments.keys():
        arguments[name] = _window(problem, name, arguments[name])
    # `feature_mask` is the side of squares; the share of a square is divided evenly over its
    # values.
    squares = None
    parameters = inspect.signature(attributor.attribute).parameters
    if SQUARES in parameters:
        squares = arguments[SQUARES] = _features(problem, arguments.get(SQUARES))
    if "baselines" in parameters:
        arguments["baselines"] = problem.baseline
    features = 1 if squares is None else int(squares.max()) + 1
    if attributor.__name__ == "ShapleyValues" and features > MOST_ORDERED:
        raise BadParameter(
            f"ShapleyValues would evaluate {features} squares in every order, which takes too long.",
            "Choose a larger feature_mask, or captum:ShapleyValueSampling.",
        )
    problem.expect(
        _evaluations(problem, arguments, features, samples_all="Shapley" in attributor.__name__)
    )
    # captum would set this itself, with a warning.
    wants_gradient = issubclass(attributor, GradientAttribution)
    image = problem.image.clone().requires_grad_(wants_gradient)
    with _seeded(seed):
        shares: Tensor = attributor(problem.objective).attribute(image, **arguments).detach()
    if squares is None:
        return shares
    counted = torch.ones_like(shares) if problem.valid is None else problem.valid.expand_as(shares)
    number = torch.bincount(squares.flatten(), counted.flatten().float())
    return shares / number.clamp(min=1)[squares].to(shares)


def _run_layer(
    attributor: Any, problem: Problem, *, seed: int, interpolation: str, **arguments: Any
) -> Tensor:
    """Return what an attributor class of a layer gives, (1, any, rows, columns)."""
    if interpolation not in INTERPOLATIONS:
        raise BadParameter(
            f"There is no interpolation {interpolation!r} of a layer's map.",
            f"Choose {', '.join(INTERPOLATIONS)}.",
        )
    # It hooks a module that stands for the layer between the two halves of D: pixels to map, map to
    # D.
    layer = nn.Identity()

    def objective(images: Tensor) -> Tensor:
        return problem.layer_objective(images, layer(problem.layer_map(images)))

    if "baselines" in inspect.signature(attributor.attribute).parameters:
        arguments["baselines"] = problem.baseline
    problem.expect(int(arguments.get("n_steps") or 0) + 2)
    with _seeded(seed):
        shares: Tensor = attributor(objective, layer).attribute(problem.image, **arguments)
    return shares.detach()


def _window(problem: Problem, name: str, value: Any) -> Any:
    """Return bands, rows and columns of a window or stride, all bands for one number; raises `BadParameter`."""
    whole = tuple(problem.image.shape[1:])
    sides = (whole[0], value, value) if isinstance(value, int) else value
    if sides is None:
        return None
    if not (
        isinstance(sides, tuple)
        and len(sides) == len(whole)
        and all(
            isinstance(side, int) and 1 <= side <= most
            for side, most in zip(sides, whole, strict=True)
        )
    ):
        bands, height, width = whole
        raise BadParameter(
            f"{name}={value} does not fit the image, of which the box depends on {bands} bands of "
            f"{width} × {height} pixels.",
            f"Write a side in pixels such as {name}={min(SQUARE, height, width)}.",
        )
    return sides


def _features(problem: Problem, side: Any) -> Tensor:
    """Return the index of the segment or square of each value, (1, C, h, w) int64, from 0."""
    if problem.segments is None:
        return _squares(problem, side)
    # What is in no segment is a feature that changes nothing: the baseline there is the image.
    first = int(problem.segments.min())
    return (problem.segments - first).expand_as(problem.image).contiguous()


def _squares(problem: Problem, side: Any) -> Tensor:
    """Return the index of the square of each value, (1, C, h, w) int64, the same in all bands."""
    if not isinstance(side, int) or side < 1:
        raise BadParameter(
            f"{side!r} is not a side of squares in pixels.",
            f"Write {option('arguments', {'feature_mask': SQUARE})}.",
        )
    _, bands, height, width = problem.image.shape
    down, across = torch.arange(height) // side, torch.arange(width) // side
    squares = down[:, None] * (int(across[-1]) + 1) + across
    return squares.to(problem.image.device).expand(1, bands, -1, -1).contiguous()


def _evaluations(
    problem: Problem, arguments: Mapping[str, Any], features: int, samples_all: bool
) -> int:
    """Estimate the number of evaluations, for the progress only."""
    if "sliding_window_shapes" in arguments:
        window, steps = arguments["sliding_window_shapes"], arguments.get("strides") or 1
        steps = steps if isinstance(steps, tuple) else (steps,) * len(window)
        sides = zip(problem.image.shape[1:], window, steps, strict=False)
        return 1 + math.prod(1 - int(wide - side) // int(step) for side, wide, step in sides)
    samples = int(arguments.get("n_steps") or arguments.get("n_samples") or 0)
    # With `samples_all` every sample takes one evaluation per feature.
    if not samples or samples_all:
        return 1 + max(1, samples) * features
    return samples


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch and numpy within the block; restore their states afterwards."""
    state = np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(state)
