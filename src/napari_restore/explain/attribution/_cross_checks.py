"""SmoothGrad and occlusion: methods independent of path integrals, to cross-check maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, option
from napari_restore.explain.attribution._problem import Explainer, Problem


def smoothgrad(problem: Problem, n: int = 25, sigma: float = 0.15, seed: int = 0) -> Tensor:
    """Return the mean of ∂D/∂x over `n` noisy copies of the image (SmoothGrad, Smilkov et al., 2017).

    `sigma` is the standard deviation of the noise, as a share of the image's range. (1, C, h, w) in
    units of D per unit of the model's range: a sensitivity, not a share of D.
    """
    _check("smoothgrad", _is_natural(n), "n", n, 25)
    _check("smoothgrad", _is_size(sigma), "sigma", sigma, 0.15)
    _check("smoothgrad", isinstance(seed, int), "seed", seed, 0)
    image = problem.image
    scale = sigma * (image.amax() - image.amin())
    # Drawn on the CPU, so that a seed gives the same map on every device.
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(image)
    problem.expect(n)
    for _ in range(n):
        noise = torch.randn(image.shape, generator=generator).to(image)
        x = (image + scale * noise).requires_grad_(True)
        (gradient,) = torch.autograd.grad(problem.objective(x).sum(), x)
        total += gradient
    return total / n


def occlusion(problem: Problem, side: int = 16, stride: int | None = None) -> Tensor:
    """Return the decrease of D when a patch of `side` pixels is replaced by the baseline (Zeiler and Fergus, 2014).

    Segments are replaced in place of patches, where they are given. Patches begin every `stride` pixels
    (default: `side`) and are truncated at the border. The share of a patch is divided evenly over its
    values; where patches overlap, their mean counts.
    (1, C, h, w) in units of D.
    """
    if problem.segments is not None:
        return _without_segments(problem, problem.segments)
    step = side if stride is None else stride
    _check("occlusion", _is_natural(side), "side", side, 16)
    # A longer stride would leave pixels that are in no patch.
    _check("occlusion", _is_natural(step) and step <= side, "stride", step, side)
    image = problem.image
    _, bands, height, width = image.shape
    whole = Region(0, 0, height, width)
    # The last patch ends at the border: a further one would be contained in it.
    patches = [
        Region(y, x, y + side, x + side).intersect(whole)
        for y in range(0, max(1, height - side + step), step)
        for x in range(0, max(1, width - side + step), step)
    ]
    total, covered = torch.zeros_like(image), torch.zeros_like(image[:, :1])
    problem.expect(len(patches) + 1)
    with torch.no_grad():
        full = float(problem.objective(image))
        for patch in patches:
            at = (..., *patch.slices)
            if problem.valid is not None and not bool(problem.valid[at].any()):
                continue
            occluded = image.clone()
            occluded[at] = problem.baseline[at]
            counted = patch.pixels if problem.valid is None else int(problem.valid[at].sum())
            total[at] += (full - float(problem.objective(occluded))) / (counted * bands)
            covered[at] += 1
    return total / covered.clamp(min=1)


def _without_segments(problem: Problem, segments: Tensor) -> Tensor:
    """Return the decrease of D when a segment is replaced, divided evenly over its values."""
    image, valid, count = problem.image, problem.valid, int(segments.max())
    total = torch.zeros_like(image)
    problem.expect(count + 1)
    with torch.no_grad():
        full = float(problem.objective(image))
        for number in range(1, count + 1):
            inside = segments == number
            share = full - float(problem.objective(problem.baseline.where(inside, image)))
            counted = inside if valid is None else inside & valid
            values = int(counted.sum()) * image.shape[1]
            total += (share / max(1, values)) * inside
    return total


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < math.inf


def _check(method: str, is_good: bool, name: str, value: object, example: float) -> None:
    if not is_good:
        raise BadParameter(
            f"Method {method} cannot take {name}={value}.",
            f"Write for instance {option('arguments', {name: example})}.",
        )


EXPLAINERS = {
    "smoothgrad": Explainer(
        smoothgrad,
        "SmoothGrad, Smilkov et al., 2017: mean gradient under noise",
        takes_baseline=False,
    ),
    "occlusion": Explainer(
        occlusion,
        "occlusion, Zeiler and Fergus, ECCV 2014: patches replaced by the baseline",
        patch_arguments=("side", "stride"),
    ),
}
"""Built-in methods by name."""
