"""Ways from a baseline to the image, along which gradients are added up.

γ(0) is the baseline, γ(1) the image. Every path gives its picture and its speed dγ/dα for a
box of pixels, (1, C, h, w) in model range, so that no picture is ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from napari_restore.engine import Region

Planes = Callable[[Region], Tensor]
"""Reads a box of an image of the source's size: (1, C, h, w) float32 in model range."""
Valid = Callable[[Region], Tensor | None]
"""Which pixels of a box count, (1, 1, h, w) bool; None where all do."""
Veil = Callable[[Region], tuple[Tensor, Tensor]]
"""Gives transmission (1, 1 or C, h, w), above 0, and airlight (1, C, h, w) of a box."""
BLUR_SIGMA = 1.2
"""Pixels; of LAM's blur at α = 0 …"""
BLUR_SIDE = 9
"""… with kernels of so many pixels along a side."""
ROUNDED = 1e-5
"""Added to σ, as LAM's code does."""


class Path(Protocol):
    """A curve γ in the space of images."""

    @property
    def name(self) -> str: ...

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        """γ(α) and dγ/dα in `box`."""
        ...


@dataclass(frozen=True)
class Straight:
    """γ(α) = x′ + α (x − x′) (Sundararajan et al., ICML 2017)."""

    image: Planes
    baseline: Planes
    name: str = "straight"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        there = self.baseline(box)
        speed = self.image(box) - there
        return torch.add(there, speed, alpha=alpha), speed


@dataclass(frozen=True)
class Haze:
    """γ(α) = A + (x − A) t^(α − 1): haze of transmission t comes up, and x is reached exactly.

    γ(0) is the scene behind the haze; all between are the scene under thinner haze, as
    Koschmieder's model has it, so the path stays among pictures that a network knows.
    """

    image: Planes
    veil: Veil
    name: str = "haze"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        transmission, far = self.veil(box)
        thickness = torch.log(transmission)
        moved = (self.image(box) - far) * torch.exp((alpha - 1) * thickness)
        return far + moved, thickness * moved


@dataclass(frozen=True)
class Blur:
    """γ(α) = x convolved with a Gaussian of σ (1 − α), which shrinks to nothing (LAM).

    The kernel is cut off at `side` pixels and made to add up to 1; beyond the image's edge
    the last pixel is repeated.
    """

    image: Planes
    size: tuple[int, int]
    """(height, width) of the image."""
    sigma: float = BLUR_SIGMA
    side: int = BLUR_SIDE
    name: str = field(default="blur")

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        grown = around(self.image, box, self.side // 2, self.size)
        sigma = self.sigma * (1 - alpha)
        kernel, slope = gaussian(sigma, self.side, grown)
        return _convolved(grown, kernel), -self.sigma * _convolved(grown, slope)


@dataclass(frozen=True)
class SteppedBlur:
    """LAM's path in `steps` pictures: the speed of each is taken for what it gained on the last.

    That is what the public code of LAM adds up: m (γ(α) − γ(α − 1/m)), at α = 1/m … 1.
    """

    blur: Blur
    steps: int
    name: str = "blur, stepped"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture, _ = self.blur.at(alpha, box)
        before, _ = self.blur.at(max(0.0, alpha - 1 / self.steps), box)
        return picture, self.steps * (picture - before)


@dataclass(frozen=True)
class ReleasedDam:
    """The straight path with the speed that the public code of DAM takes: 2x − x′.

    Not dγ/dα, which is x − x′: its maps do not add up to what the model did. Kept to repeat
    published figures.
    """

    straight: Straight
    name: str = "straight, with the speed 2x − x′: NOT a path integral"

    def at(self, alpha: float, box: Region) -> tuple[Tensor, Tensor]:
        picture, speed = self.straight.at(alpha, box)
        return picture, speed + self.straight.image(box)


@dataclass(frozen=True)
class Counted:
    """A path along which pixels that do not count stay as they are in the image."""

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
    """`box` grown by `reach`; beyond an image of `size` its last pixel is repeated."""
    wide = box.expand(reach)
    there = wide.intersect(Region(0, 0, *size))
    beyond = (there.x0 - wide.x0, wide.x1 - there.x1, there.y0 - wide.y0, wide.y1 - there.y1)
    return pad(image(there), beyond, mode="replicate")


def gaussian(sigma: float, side: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """A normalised Gaussian (side, side), and what it changes by per pixel of σ.

    In float64 until the end; `ROUNDED` keeps σ = 0 finite, where the kernel is one pixel.
    """
    sigma = sigma + ROUNDED
    at = torch.arange(side, dtype=torch.float64) - side // 2
    square = at[:, None] ** 2 + at**2
    weights = torch.exp(-square / (2 * sigma * sigma))
    kernel = weights / weights.sum()
    # d/dσ of w is w r²/σ³; the mean comes off, as the sum stays 1.
    rate = square / sigma**3
    slope = kernel * (rate - (kernel * rate).sum())
    return kernel.to(like), slope.to(like)


def _convolved(image: Tensor, kernel: Tensor) -> Tensor:
    bands = image.shape[1]
    weights = kernel.expand(bands, 1, *kernel.shape)
    return conv2d(image, weights, groups=bands)
