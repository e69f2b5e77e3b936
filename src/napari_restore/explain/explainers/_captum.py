"""Attributors of captum, which sees D as a function of the pixels and nothing of the model.

What needs no more than that runs: gradients, Shapley values, ablations. What rewires the network or
attributes to its layers does not, as D is more than one network (tiles, statistics, radiometry).
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
from torch import Tensor

from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.explain.explainers._problem import Explainer, Problem

PREFIX = "captum:"
SQUARE = 16
"""Side in pixels of the squares that count as one feature, where a method wants features."""
BYTES = 32
"""Per value and picture at a time: picture, baseline, gradient, and what is made of them."""
WINDOWS = {"sliding_window_shapes", "strides"}
"""Arguments that are of bands, rows and columns."""
MOST_ORDERED = 8
"""Squares that are shown in every order: 8 have 40 320."""
COMPLETE = {
    *("IntegratedGradients", "GradientShap"),
    *("ShapleyValues", "ShapleyValueSampling", "KernelShap"),
}
"""Those whose shares are to add up to D(x) − D(x′)."""
MIXING = {"FeaturePermutation"}
"""Those that want several images."""
FITTED = {"KernelShap", "Lime"}
"""Those that fit a linear model, with scikit-learn: captum finds out that it lacks it when all
pictures have been shown."""
AT_A_TIME = ("internal_batch_size", "perturbations_per_eval", "n_samples")
"""Arguments that say how many pictures are held at a time, the first that there is. GradientShap
holds all its samples."""
OURS = {
    *("self", "inputs", "baselines", "target", "additional_forward_args"),
    *("return_convergence_delta", "return_input_shape", "show_progress"),
}
"""Arguments that are not the user's."""
DEFAULTS: dict[str, Any] = {"feature_mask": SQUARE, "internal_batch_size": 1}
"""In place of captum's: every value a feature, and all steps at once."""


def explainer_of(name: str) -> Explainer:
    """``captum:NAME``; raises `BadParameter` where captum or NAME is missing, or cannot run here."""
    asked = name.removeprefix(PREFIX)
    if importlib.util.find_spec("captum") is None:
        raise BadParameter(
            f"{asked or 'This method'} is captum's, which is missing.",
            "Install napari-restore[captum].",
        )
    import captum.attr

    found = getattr(captum.attr, asked, None) if asked in captum.attr.__all__ else None
    if not (inspect.isclass(found) and hasattr(found, "attribute")):
        raise BadParameter(
            f"captum has no attributor {asked!r}.", did_you_mean(asked, able(), "Choose")
        )
    if asked in MIXING:
        raise BadParameter(
            f"{asked} swaps pixels between images, and there is one.",
            f"Choose among {', '.join(able())}.",
        )
    if not _can_run(found):
        raise BadParameter(
            f"{asked} wants a network to look into, and gets D as a function of the pixels.",
            f"Choose among {', '.join(able())}.",
        )
    if asked in FITTED and importlib.util.find_spec("sklearn") is None:
        raise BadParameter(
            f"{asked} fits a model by scikit-learn, which is missing.",
            "Install napari-restore[captum], or scikit-learn.",
        )
    return described(asked)


def described(name: str) -> Explainer:
    """One of those that are `able`, whether or not what it needs besides captum is there."""
    import captum.attr

    found = getattr(captum.attr, name)
    known = inspect.signature(found.attribute).parameters
    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=0)
    offered = {
        key: p.replace(default=DEFAULTS[key]) if key in DEFAULTS else p
        for key, p in known.items()
        if key not in OURS
    }
    return Explainer(
        partial(_run, found),
        f"{name} of captum, Kokhlikyan et al., 2020",
        takes_baseline="baselines" in known,
        is_complete=name in COMPLETE,
        images_in_memory=BYTES,
        at_a_time=next((key for key in AT_A_TIME if key in known), ""),
        package="captum",
        parameters={**offered, "seed": seed},
    )


def _can_run(attributor: Any) -> bool:
    """Whether it is made from a function alone."""
    first, *others = list(inspect.signature(attributor.__init__).parameters.values())[1:]
    return first.name == "forward_func" and all(p.default is not p.empty for p in others)


def able() -> list[str]:
    """The names of those that run, without `PREFIX`; captum must be there."""
    import captum.attr

    classes = {name: getattr(captum.attr, name) for name in captum.attr.__all__}
    return [
        name
        for name, found in classes.items()
        if inspect.isclass(found)
        and "inputs" in inspect.signature(getattr(found, "attribute", len)).parameters
        and _can_run(found)
        and name not in MIXING
    ]


def _run(attributor: Any, asked: Problem, *, seed: int, **arguments: Any) -> Tensor:
    """The map of an attributor class, (1, C, h, w).

    `feature_mask` is the side of squares; what a square has is spread over its values.
    """
    from captum.attr import GradientAttribution

    for name in WINDOWS & arguments.keys():
        arguments[name] = _window(asked, name, arguments[name])
    squares = None
    if "feature_mask" in arguments:
        squares = arguments["feature_mask"] = _squares(asked, arguments["feature_mask"])
    if "baselines" in inspect.signature(attributor.attribute).parameters:
        arguments["baselines"] = asked.baseline
    features = 1 if squares is None else int(squares.max()) + 1
    if attributor.__name__ == "ShapleyValues" and features > MOST_ORDERED:
        raise BadParameter(
            f"ShapleyValues shows {features} squares in every order, which takes too long.",
            "Choose a larger feature_mask, or captum:ShapleyValueSampling.",
        )
    asked.expect(
        _pictures(asked, arguments, features, samples_all="Shapley" in attributor.__name__)
    )
    # It would do this itself, and warn.
    wants_gradient = issubclass(attributor, GradientAttribution)
    image = asked.image.clone().requires_grad_(wants_gradient)
    with _seeded(seed):
        found: Tensor = attributor(asked.objective).attribute(image, **arguments).detach()
    if squares is None:
        return found
    counted = torch.ones_like(found) if asked.valid is None else asked.valid.expand_as(found)
    number = torch.bincount(squares.flatten(), counted.flatten().float())
    return found / number.clamp(min=1)[squares].to(found)


def _window(asked: Problem, name: str, given: Any) -> Any:
    """Bands, rows and columns of a window or a step, of which a number means all bands.

    Raises `BadParameter` where it does not fit the image.
    """
    whole = tuple(asked.image.shape[1:])
    sides = (whole[0], given, given) if isinstance(given, int) else given
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
            f"{name}={given} does not fit the image, of which the box depends on {bands} bands of "
            f"{width} × {height} pixels.",
            f"Write a side in pixels such as {name}={min(SQUARE, height, width)}.",
        )
    return sides


def _squares(asked: Problem, side: Any) -> Tensor:
    """(1, C, h, w) int64: the number of the square that a value lies in, of all bands together."""
    if not isinstance(side, int) or side < 1:
        raise BadParameter(
            f"{side!r} is no side of squares.", f"Write --argument feature_mask={SQUARE}."
        )
    _, bands, height, width = asked.image.shape
    down, across = torch.arange(height) // side, torch.arange(width) // side
    squares = down[:, None] * (int(across[-1]) + 1) + across
    return squares.to(asked.image.device).expand(1, bands, -1, -1).contiguous()


def _pictures(
    asked: Problem, arguments: Mapping[str, Any], features: int, samples_all: bool
) -> int:
    """About how many pictures will be shown: for the time left, not for the map.

    With `samples_all` every sample takes as many as there are features.
    """
    if "sliding_window_shapes" in arguments:
        window, steps = arguments["sliding_window_shapes"], arguments.get("strides") or 1
        steps = steps if isinstance(steps, tuple) else (steps,) * len(window)
        sides = zip(asked.image.shape[1:], window, steps, strict=False)
        return 1 + math.prod(1 - int(wide - side) // int(step) for side, wide, step in sides)
    samples = int(arguments.get("n_steps") or arguments.get("n_samples") or 0)
    if not samples or samples_all:
        return 1 + max(1, samples) * features
    return samples


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within it torch and numpy draw from `seed`; afterwards go on as if nothing had been."""
    state = np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(state)
