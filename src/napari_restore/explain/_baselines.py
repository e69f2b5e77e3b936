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
from napari_restore.explain._paths import (
    Blur,
    Haze,
    Path,
    Planes,
    ReleasedDam,
    SteppedBlur,
    Straight,
)

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
    """What a path is made from: the opened model, the map's region, and other models."""

    opened: Opened
    region: Region
    image: Planes
    """The source over `region`."""
    open_model: OpenModel
    is_small: bool
    """Whether what covers `region` may be held in memory; else it is made box by box."""

    def held(self, planes: Planes) -> Planes:
        """`planes`, computed once for all if the region is small."""
        return Held(self.region, planes(self.region)) if self.is_small else planes

    @property
    def has_maps(self) -> bool:
        """Whether the model itself tells transmission and airlight."""
        card = self.opened.plan.model.card
        return {"transmission", "airlight"} <= set(card.maps)


def path_of(
    name: str, baseline: str, ground: Ground, clear: Opened | None, steps: int = 1
) -> tuple[Path, str]:
    """The path of a method and what its beginning is called in the record.

    `steps` is for paths that are a series of pictures; `baseline` is one of `NAMES` or names a clear image, which is then `clear`. Raises
    `BadParameter`.
    """
    if name == "blur":
        height, width = ground.opened.size
        return Blur(ground.opened.image, (height, width)), "the image, blurred (LAM)"
    if name == "haze":
        seen, whose = _seer(ground)
        transmission = ground.held(lambda box: seen(box)[0])
        airlight = ground.held(lambda box: seen(box)[1])
        path = Haze(ground.image, transmission, airlight)
        return path, f"the scene behind the haze that {whose} sees"
    if name == "lam-2021":
        height, width = ground.opened.size
        blur = Blur(ground.opened.image, (height, width))
        return SteppedBlur(blur, steps), "the image, blurred (LAM)"
    planes, told = _baseline(baseline, ground, clear)
    straight = Straight(ground.image, ground.held(planes))
    return ReleasedDam(straight) if name == "dam-released" else straight, told


def _seer(ground: Ground) -> tuple[Callable[[Region], tuple[Tensor, Tensor]], str]:
    """What tells transmission and airlight of a box, and which model that is."""
    opened = ground.opened
    order: list[int] | None = None
    if not ground.has_maps:
        # It sees haze pixel by pixel, where dcp has to look around each.
        behind = "atmosphere" if opened.plan.model.card.placed else "dcp"
        opened = ground.open_model(behind)
        order = order_of(opened, ground.opened)
    last: list[tuple[Region, tuple[Tensor, Tensor]]] = []

    def seen(box: Region) -> tuple[Tensor, Tensor]:
        # Transmission and airlight of a box are asked for one after the other.
        if not last or last[0][0] != box:
            _, maps = restored(opened, box)
            airlight = maps["airlight"] if order is None else maps["airlight"][:, order]
            last[:] = [(box, (maps["transmission"].clamp(min=LEAST_TRANSMISSION), airlight))]
        return last[0][1]

    return seen, opened.plan.model.card.id


def order_of(helper: Opened, asked: Opened) -> list[int]:
    """Which channels of another model, or of another image, are those of the model that is asked.

    Another image's bands are found by their roles, else by their numbers. Raises `BadParameter`.
    """
    image, other = asked.plan.image, helper.plan.image
    bands = list(asked.plan.bands)
    if other is not image:
        roles = [image.roles[band] for band in bands]
        if all(role is not None and role in other.roles for role in roles):
            bands = [other.roles.index(role) for role in roles]
    if not set(bands) <= set(helper.plan.bands):
        raise BadParameter(
            f"{asked.plan.model.card.id} sees bands that {_name_of(helper, asked)} does not.",
            "Choose --method ig with --baseline blur or zero.",
        )
    return [helper.plan.bands.index(band) for band in bands]


def _name_of(helper: Opened, asked: Opened) -> str:
    same = helper.plan.image is asked.plan.image
    return helper.plan.model.card.id if same else helper.plan.image.name


def _baseline(name: str, ground: Ground, clear: Opened | None) -> tuple[Planes, str]:
    if clear is not None:
        like = order_of(clear, ground.opened)
        told = f"the clear image {clear.plan.image.name}"
        return lambda box: clear.image(box)[:, like], told
    if name == "zero":
        return lambda box: torch.zeros_like(ground.image(box)), "zeros"
    if name == "blur":
        told = f"the image, blurred with σ = {BLUR_SIGMA:g} pixels"
        return lambda box: _blurred(ground.opened, box), told
    if name == "output":
        if ground.opened.plan.staged is not None:
            raise BadParameter(
                "The output of a model that sees the whole image is no baseline here.",
                "Restore the image first, and name the result with --baseline FILE.",
            )
        return lambda box: restored(ground.opened, box)[0], "the model's own output"
    if name == "dehazed":
        dehazer = ground.open_model("dcp")
        order = order_of(dehazer, ground.opened)
        return lambda box: restored(dehazer, box)[0][:, order], "what dcp makes of the image"
    if not name:
        raise BadParameter(
            "This method goes from a clear image of the same scene to the hazy one.",
            f"Name it with --baseline FILE, or choose among {', '.join(NAMES)}.",
        )
    raise BadParameter(
        f"There is no baseline {name!r}, nor a file of that name.",
        f"Choose among {', '.join(NAMES)}, or name an image.",
    )


def _blurred(opened: Opened, box: Region) -> Tensor:
    """A box of the image under a Gaussian; beyond its edge the last pixel is repeated."""
    height, width = opened.size
    weights = weights_of(BLUR_SIGMA, torch.empty(0, device=opened.plan.device.torch))
    wide = box.expand(len(weights) // 2)
    there = wide.intersect(Region(0, 0, height, width))
    beyond = (there.x0 - wide.x0, wide.x1 - there.x1, there.y0 - wide.y0, wide.y1 - there.y1)
    return convolved(pad(opened.image(there), beyond, mode="replicate"), weights)


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
