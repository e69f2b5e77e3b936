"""Where a path begins: pictures that do not hold what is asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from napari_restore.engine import Region
from napari_restore.engine.gradients import GradientSource, restored
from napari_restore.errors import BadParameter
from napari_restore.explain._paths import (
    Blur,
    Haze,
    Path,
    Planes,
    ReleasedDam,
    SteppedBlur,
    Straight,
    Veil,
    around,
)

BLUR_SIGMA = 8.0
"""Pixels of the baseline ``blur``: what is finer than a few of these is gone."""
LEAST_TRANSMISSION = 0.05
"""Below this a pixel's scene cannot be told from its haze."""
NAMES = ("blur", "zero", "output", "dehazed")
OpenModel = Callable[[str], GradientSource]
"""Opens another model on the same image, by its id."""


class InMemory:
    """A box of an image in memory, read in smaller boxes."""

    def __init__(self, region: Region, planes: Tensor) -> None:
        self.region, self.planes = region, planes

    def __call__(self, box: Region) -> Tensor:
        return self.planes[(..., *box.within(self.region))]


@dataclass(frozen=True)
class PathInputs:
    """What a path is made from: the source model, the map's region, and other models."""

    source: GradientSource
    region: Region
    image: Planes
    """The source over `region`."""
    open_model: OpenModel
    is_small: bool
    """Whether what covers `region` may be held in memory; else it is made box by box."""

    def in_memory(self, planes: Planes) -> Planes:
        """`planes`, computed once for all if the region is small."""
        return InMemory(self.region, planes(self.region)) if self.is_small else planes


def path_of(
    name: str, baseline: str, inputs: PathInputs, clear: GradientSource | None, steps: int = 1
) -> tuple[Path, str]:
    """The path of a method and what its beginning is called in the record.

    `steps` is for paths that are a series of pictures; `baseline` is one of `NAMES` or names a
    clear image, which is then `clear`. Raises `BadParameter`.
    """
    blur = Blur(inputs.source.image, inputs.source.size)
    if name == "blur":
        return blur, "the image, blurred (LAM)"
    if name == "haze":
        veil, whose = _veil(inputs)
        return Haze(inputs.image, veil), f"the scene behind the haze that {whose} sees"
    if name == "lam-2021":
        return SteppedBlur(blur, steps), "the image, blurred (LAM)"
    planes, told = _baseline(baseline, inputs, clear)
    straight = Straight(inputs.image, inputs.in_memory(planes))
    return ReleasedDam(straight) if name == "dam-released" else straight, told


def _veil(inputs: PathInputs) -> tuple[Veil, str]:
    """The haze of a box, and which model sees it."""
    source = seer_of(inputs.source, inputs.open_model)
    order = order_of(source, inputs.source)

    def seen(box: Region) -> tuple[Tensor, Tensor]:
        _, maps = restored(source, box)
        return maps["transmission"].clamp(min=LEAST_TRANSMISSION), maps["airlight"][:, order]

    whose = source.plan.model.card.id
    if not inputs.is_small:
        return seen, whose
    transmission, airlight = (InMemory(inputs.region, planes) for planes in seen(inputs.region))
    return lambda box: (transmission(box), airlight(box)), whose


def seer_of(asked: GradientSource, open_model: OpenModel) -> GradientSource:
    """Who tells transmission and airlight of the image: the model itself, or another."""
    card = asked.plan.model.card
    if {"transmission", "airlight"} <= set(card.maps):
        return asked
    # It sees haze pixel by pixel, where dcp has to look around each.
    return open_model("atmosphere" if card.placed else "dcp")


def order_of(helper: GradientSource, asked: GradientSource) -> list[int]:
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


def _name_of(helper: GradientSource, asked: GradientSource) -> str:
    same = helper.plan.image is asked.plan.image
    return helper.plan.model.card.id if same else helper.plan.image.name


def _baseline(name: str, inputs: PathInputs, clear: GradientSource | None) -> tuple[Planes, str]:
    if clear is not None:
        like = order_of(clear, inputs.source)
        told = f"the clear image {clear.plan.image.name}"
        return lambda box: clear.image(box)[:, like], told
    if name == "zero":
        return lambda box: _zeros_like(inputs.image(box)), "zeros"
    if name == "blur":
        told = f"the image, blurred with σ = {BLUR_SIGMA:g} pixels"
        source = inputs.source
        return lambda box: blurred(source.image, box, BLUR_SIGMA, source.size), told
    if name == "output":
        if inputs.source.plan.staged is not None:
            raise BadParameter(
                "The output of a model that sees the whole image is no baseline here.",
                "Restore the image first, and name the result with --baseline FILE.",
            )
        return lambda box: restored(inputs.source, box)[0], "the model's own output"
    if name == "dehazed":
        dehazer = inputs.open_model("dcp")
        order = order_of(dehazer, inputs.source)
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


def _zeros_like(x: Tensor) -> Tensor:
    """One zero, seen everywhere."""
    return x.new_zeros(()).expand_as(x)


def blurred(image: Planes, box: Region, sigma: float, size: tuple[int, int]) -> Tensor:
    """A box of an image of `size` under a Gaussian, cut off at three times its `sigma`."""
    reach = max(1, int(3 * sigma))
    x = around(image, box, reach, size)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    weights = (weights / weights.sum()).to(x)
    bands = x.shape[1]
    # Down, then across.
    x = conv2d(x, weights.view(1, 1, -1, 1).expand(bands, 1, -1, 1), groups=bands)
    return conv2d(x, weights.view(1, 1, 1, -1).expand(bands, 1, 1, -1), groups=bands)
