"""Integration paths from a baseline to the image.

γ(0) is the baseline, γ(1) the image. Every path returns γ(α) and its speed dγ/dα for a box of
pixels, (1, C, h, w) in model range, so that no image of the path is ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from napari_restore.engine import Region

Planes = Callable[[Region], Tensor]
"""Reads a box of an image of the source's size: (1, C, h, w) float32 in model range."""
Valid = Callable[[Region], Tensor | None]
"""Reads which pixels of a box count, (1, 1, h, w) bool; None where all do."""
HazeReader = Callable[[Region], tuple[Tensor, Tensor]]
"""Returns transmission (1, 1 or C, h, w), above 0, and airlight (1, C, h, w) of a box."""
BLUR_SIGMA = 1.2
"""Standard deviation in pixels of LAM's blur at α = 0."""
BLUR_SIDE = 9
"""Side in pixels of its kernel."""
EPSILON = 1e-5
"""Added to σ, as in the code of LAM."""


class Path(Protocol):
    """A curve γ in the space of images."""

    @property
    def name(self) -> str: ...

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        """Return γ(α) and dγ/dα in `box`, each (1, C, h, w)."""
        ...


@dataclass(frozen=True)
class Straight:
    """γ(α) = x′ + α (x − x′) (Sundararajan et al., ICML 2017)."""

    image: Planes
    baseline: Planes
    name: str = "straight"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        inside = self.baseline(box)
        speed = self.image(box) - inside
        return torch.add(inside, speed, alpha=alpha), speed


@dataclass(frozen=True)
class HazePath:
    """γ(α) = A + (x − A) t^(α − 1): haze of transmission t is added, up to x exactly; γ(0) has none."""

    # The path stays within the distribution of the network's inputs: scenes under thinner haze, by
    # Koschmieder's model.
    image: Planes
    haze: HazeReader
    name: str = "haze"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        transmission, airlight = self.haze(box)
        log_transmission = torch.log(transmission)
        scene = (self.image(box) - airlight) * torch.exp((alpha - 1) * log_transmission)
        return airlight + scene, log_transmission * scene


@dataclass(frozen=True)
class Blur:
    """γ(α) = x convolved with a Gaussian of σ (1 − α), which vanishes at α = 1 (LAM).

    The kernel is truncated to `side` pixels and normalised; the image is padded by replication.
    """

    image: Planes
    size: tuple[int, int]
    """(height, width) of the image."""
    sigma: float = BLUR_SIGMA
    side: int = BLUR_SIDE
    name: str = "blur"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        grown = around(self.image, box, self.side // 2, self.size)
        sigma = self.sigma * (1 - alpha)
        kernel, slope = gaussian(sigma, self.side, grown)
        return _convolved(grown, kernel), -self.sigma * _convolved(grown, slope)


@dataclass(frozen=True)
class SteppedBlur:
    """LAM's path in `steps` images, with backward differences as the speed."""

    # The public code of LAM sums m (γ(α) − γ(α − 1/m)) at α = 1/m … 1.
    blur: Blur
    steps: int
    name: str = "blur, stepped"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture, _ = self.blur.at(alpha, box)
        before, _ = self.blur.at(max(0.0, alpha - 1 / self.steps), box)
        return picture, self.steps * (picture - before)


@dataclass(frozen=True)
class ReleasedDam:
    """The straight path with the speed of the public code of DAM: 2x − x′, to reproduce published figures."""

    # This is not dγ/dα, which is x − x′: the maps do not sum to D(x) − D(x′).
    straight: Straight
    name: str = "straight, with the speed 2x − x′: NOT a path integral"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture, speed = self.straight.at(alpha, box)
        return picture, speed + self.straight.image(box)


@dataclass(frozen=True)
class Counted:
    """A path along which pixels that do not count keep their value in the image."""

    path: Path
    image: Planes
    valid: Valid

    @property
    def name(self) -> str:
        return self.path.name

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture, speed = self.path.at(alpha, box)
        counts = self.valid(box)
        if counts is None:
            return picture, speed
        return picture.where(counts, self.image(box)), speed * counts


def around(image: Planes, box: Region, reach: int, size: tuple[int, int]) -> Tensor:
    """Read `box` expanded by `reach`, padded by replication outside of an image of `size`."""
    wide = box.expand(reach)
    inside = wide.intersect(Region(0, 0, *size))
    beyond = (inside.x0 - wide.x0, wide.x1 - inside.x1, inside.y0 - wide.y0, wide.y1 - inside.y1)
    return pad(image(inside), beyond, mode="replicate")


def gaussian(sigma: float, side: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a normalised Gaussian (side, side) and its derivative by σ in pixels, by float64."""
    # `EPSILON` keeps σ = 0 finite, where the kernel is one pixel.
    sigma = sigma + EPSILON
    at = torch.arange(side, dtype=torch.float64) - side // 2
    square = at[:, None] ** 2 + at**2
    weights = torch.exp(-square / (2 * sigma * sigma))
    kernel = weights / weights.sum()
    # d/dσ of w is w r²/σ³; the mean is subtracted because the sum stays 1.
    rate = square / sigma**3
    slope = kernel * (rate - (kernel * rate).sum())
    return kernel.to(like), slope.to(like)


def _convolved(image: Tensor, kernel: Tensor) -> Tensor:
    bands = image.shape[1]
    weights = kernel.expand(bands, 1, *kernel.shape)
    return conv2d(image, weights, groups=bands)
