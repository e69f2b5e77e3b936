"""Where a path begins: pictures that do not hold what is asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from napari_restore.engine import Region
from napari_restore.engine.gradients import Opened, restored
from napari_restore.errors import BadParameter
from napari_restore.explain._paths import Blur, Haze, Path, Straight

BLUR_SIGMA = 8.0
"""Pixels of the baseline ``blur``: what is finer than a few of these is gone."""
LEAST_TRANSMISSION = 0.05
"""Below this a pixel's scene cannot be told from its haze."""
NAMES = ("blur", "zero", "output", "dehazed")
OpenModel = Callable[[str], Opened]
"""Opens another model on the same image, by its id."""


class Held:
    """A box of an image in memory, read in smaller boxes."""

    def __init__(self, region: Region, planes: Tensor) -> None:
        self.region, self.planes = region, planes

    def __call__(self, box: Region) -> Tensor:
        return self.planes[(..., *box.shift(-self.region.y0, -self.region.x0).slices)]


@dataclass(frozen=True)
class Ground:
    """What a path is made from: the opened model, the box that is held, and other models."""

    opened: Opened
    region: Region
    image: Held
    """The source over `region`."""
    open_model: OpenModel

    @property
    def has_maps(self) -> bool:
        """Whether the model itself tells transmission and airlight."""
        card = self.opened.plan.model.card
        return {"transmission", "airlight"} <= set(card.maps)


def path_of(name: str, baseline: str, ground: Ground, clear: Opened | None) -> tuple[Path, str]:
    """The path of a method and what its beginning is called in the record.

    `baseline` is one of `NAMES` or names a clear image, which is then `clear`. Raises
    `BadParameter`.
    """
    if name == "blur":
        height, width = ground.opened.size
        return Blur(ground.opened.image, (height, width)), "the image, blurred (LAM)"
    if name == "haze":
        transmission, airlight, whose = _haze(ground)
        region = ground.region
        path = Haze(ground.image, Held(region, transmission), Held(region, airlight))
        return path, f"the scene behind the haze that {whose} sees"
    planes, told = _baseline(baseline, ground, clear)
    return Straight(ground.image, Held(ground.region, planes)), told


def _haze(ground: Ground) -> tuple[Tensor, Tensor, str]:
    opened = ground.opened
    whose = opened.plan.model.card.id
    if not ground.has_maps:
        whose = "dcp"
        opened = ground.open_model(whose)
    _, maps = restored(opened, ground.region)
    return maps["transmission"].clamp(min=LEAST_TRANSMISSION), maps["airlight"], whose


def _baseline(name: str, ground: Ground, clear: Opened | None) -> tuple[Tensor, str]:
    if clear is not None:
        return clear.image(ground.region), f"the clear image {clear.plan.image.name}"
    if name == "zero":
        return torch.zeros_like(ground.image.planes), "zeros"
    if name == "blur":
        return _blurred(ground), f"the image, blurred with σ = {BLUR_SIGMA:g} pixels"
    if name == "output":
        return restored(ground.opened, ground.region)[0], "the model's own output"
    if name == "dehazed":
        return restored(ground.open_model("dcp"), ground.region)[0], "what dcp makes of the image"
    if not name:
        raise BadParameter(
            "This method goes from a clear image of the same scene to the hazy one.",
            f"Name it with --baseline FILE, or choose among {', '.join(NAMES)}.",
        )
    raise BadParameter(
        f"There is no baseline {name!r}, nor a file of that name.",
        f"Choose among {', '.join(NAMES)}, or name an image.",
    )


def _blurred(ground: Ground) -> Tensor:
    """A Gaussian over the image; beyond its edge the last pixel is repeated."""
    weights = weights_of(BLUR_SIGMA, ground.image.planes)
    reach = len(weights) // 2
    height, width = ground.opened.size
    wide = ground.region.expand(reach)
    there = wide.intersect(Region(0, 0, height, width))
    beyond = (there.x0 - wide.x0, wide.x1 - there.x1, there.y0 - wide.y0, wide.y1 - there.y1)
    x = pad(ground.opened.image(there), beyond, mode="replicate")
    return convolved(x, weights)


def weights_of(sigma: float, like: Tensor) -> Tensor:
    """A Gaussian of `sigma` pixels, cut off at three times that; it adds up to 1."""
    reach = max(1, int(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    return (weights / weights.sum()).to(like)


def convolved(x: Tensor, weights: Tensor) -> Tensor:
    """(1, C, h, w) under the same weights down and across, where they lie inside."""
    bands = x.shape[1]
    x = conv2d(x, weights.view(1, 1, -1, 1).expand(bands, 1, -1, 1), groups=bands)
    return conv2d(x, weights.view(1, 1, 1, -1).expand(bands, 1, 1, -1), groups=bands)
