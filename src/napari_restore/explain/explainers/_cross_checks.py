"""Two methods that share nothing with integrated gradients: where they agree, a map is believed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.errors import BadParameter
from napari_restore.explain.explainers._problem import Explainer, Problem


def smoothgrad(asked: Problem, n: int = 25, sigma: float = 0.15, seed: int = 0) -> Tensor:
    """The mean of ∂D/∂x over `n` noisy copies of the image (SmoothGrad, Smilkov et al., 2017).

    `sigma` is that of the noise, as a share of the image's range. (1, C, h, w) in units of D
    per unit of the model's range: how much D would change, not what of D a pixel has made.
    """
    _check("smoothgrad", _is_natural(n), "n", n, "25")
    _check("smoothgrad", _is_size(sigma), "sigma", sigma, "0.15")
    _check("smoothgrad", isinstance(seed, int), "seed", seed, "0")
    image = asked.image
    scale = sigma * (image.amax() - image.amin())
    # On the processor: one seed, one map, whatever the device.
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(image)
    asked.expect(n)
    for _ in range(n):
        noise = torch.randn(image.shape, generator=generator).to(image)
        x = (image + scale * noise).requires_grad_(True)
        (gradient,) = torch.autograd.grad(asked.objective(x).sum(), x)
        total += gradient
    return total / n


def occlusion(asked: Problem, side: int = 16, stride: int | None = None) -> Tensor:
    """What D loses when a patch of `side` pixels is replaced by the baseline (Zeiler and Fergus, 2014).

    Patches begin every `stride` pixels (default: `side`) and are cut off at the border. What a patch
    makes of D is spread evenly over its values; where patches overlap, their mean counts:
    (1, C, h, w) in units of D.
    """
    step = side if stride is None else stride
    _check("occlusion", _is_natural(side), "side", side, "16")
    # A longer stride would leave pixels that are never looked at.
    _check("occlusion", _is_natural(step) and step <= side, "stride", step, str(side))
    image = asked.image
    _, bands, height, width = image.shape
    whole = Region(0, 0, height, width)
    # A patch that begins beyond the last one's beginning would show nothing new.
    patches = [
        Region(y, x, y + side, x + side).intersect(whole)
        for y in range(0, max(1, height - side + step), step)
        for x in range(0, max(1, width - side + step), step)
    ]
    total, covered = torch.zeros_like(image), torch.zeros_like(image[:, :1])
    asked.expect(len(patches) + 1)
    with torch.no_grad():
        full = float(asked.objective(image))
        for patch in patches:
            at = (..., *patch.slices)
            if asked.valid is not None and not bool(asked.valid[at].any()):
                continue
            picture = image.clone()
            picture[at] = asked.baseline[at]
            counted = patch.pixels if asked.valid is None else int(asked.valid[at].sum())
            total[at] += (full - float(asked.objective(picture))) / (counted * bands)
            covered[at] += 1
    return total / covered.clamp(min=1)


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < math.inf


def _check(method: str, is_good: bool, name: str, value: object, example: str) -> None:
    if not is_good:
        raise BadParameter(
            f"Method {method} cannot take {name}={value}.",
            f"Write for instance --argument {name}={example}.",
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
    ),
}
"""By name."""
