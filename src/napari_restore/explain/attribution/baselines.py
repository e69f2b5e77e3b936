"""Baselines: the images at which a path begins."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from napari_restore.engine import Region
from napari_restore.engine.gradients.gradient_source import GradientSource, restored, side_maps
from napari_restore.errors import BadParameter, option
from napari_restore.explain.attribution.paths import (
    Blur,
    HazePath,
    HazeReader,
    Path,
    Planes,
    ReleasedDam,
    SteppedBlur,
    Straight,
    around,
)
from napari_restore.models import OnInputGrid

BLUR_SIGMA = 8.0
"""Standard deviation in pixels of the baseline ``blur``, which removes finer detail."""
LEAST_TRANSMISSION = 0.05
"""Lower limit of transmission: below it the scene cannot be separated from the haze."""
RECENT_SHARES = (64, 16)
"""Shares of the memory budget, 1 / each, for the parts of a baseline that were read last: always, and
at most, where gradients leave it."""
RECENT_ON_DEVICE = 256 << 20
"""Most bytes of them where they lie in an accelerator's own memory, which that budget is not of."""
REFERENCE = "reference"
"""Baseline of a bracket: every frame is the reference, so that what the others add is attributed."""
NAMES = ("blur", "zero", "output", "dehazed", REFERENCE)
OF_BRACKETS = ("blur", "zero", REFERENCE)
"""Those that a bracket has."""
OpenModel = Callable[[str], GradientSource]
"""Opens another model on the same image, by its id."""


class InMemory:
    """Reader of a region of an image that is in memory."""

    def __init__(self, region: Region, planes: Tensor) -> None:
        self.region, self.planes = region, planes

    def __call__(self, box: Region) -> Tensor:
        return self.planes[(..., *box.within(self.region))]


class Recent:
    """Reader that keeps the boxes read last, up to `limit` bytes; threads may share it."""

    # A point of a path reads a tile several times: for the forward pass, for the backward pass, and
    # for the speed at which the gradient counts.
    def __init__(self, planes: Planes, limit: int) -> None:
        self._planes, self._limit = planes, limit
        self._kept: OrderedDict[Region, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, box: Region) -> Tensor:
        """Return (1, C, h, w), which is shared: not to be changed."""
        with self._lock:
            found = self._kept.get(box)
            if found is not None:
                self._kept.move_to_end(box)
                return found
        read = self._planes(box)
        with self._lock:
            if box not in self._kept:
                self._kept[box] = read
                self._bytes += read.nbytes
            while self._bytes > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes
        return read


@dataclass(frozen=True)
class PathInputs:
    """Inputs of a path: the source model, the region of the map, and access to other models."""

    source: GradientSource
    region: Region
    image: Planes
    """Reads the source image over `region`."""
    open_model: OpenModel
    is_small: bool
    """Whether arrays of the size of `region` may be kept in memory; else they are computed by boxes."""
    room: int = 0
    """Bytes of the memory budget that the gradients leave."""

    def in_memory(self, planes: Planes) -> Planes:
        """Return `planes`, computed once if the region is small, else kept for a while."""
        if self.is_small:
            return InMemory(self.region, planes(self.region))
        plan = self.source.plan
        least, most = (plan.memory // share for share in RECENT_SHARES)
        limit = max(least, min(most, self.room))
        if plan.device.is_accelerator:
            limit = min(limit, RECENT_ON_DEVICE)
        return Recent(planes, limit)


def path_of(
    name: str, baseline: str, inputs: PathInputs, clear: GradientSource | None, steps: int = 1
) -> tuple[Path, str]:
    """Return the path of a method, and the description of its baseline for the record.

    `steps` is for paths that are a series of images; `baseline` is one of `NAMES` or the path of a
    clear image, which is then open as `clear`. Raises `BadParameter`.
    """
    blur = Blur(inputs.source.image, inputs.source.size)
    if name == "blur":
        return blur, "the image, blurred (LAM)"
    if name == "haze":
        haze_of, model_id = _haze_of(inputs)
        return HazePath(inputs.image, haze_of), f"the scene behind the haze that {model_id} sees"
    if name == "lam-2021":
        return SteppedBlur(blur, steps), "the image, blurred (LAM)"
    planes, description = _baseline(baseline, inputs, clear)
    straight = Straight(inputs.image, inputs.in_memory(planes))
    return ReleasedDam(straight) if name == "dam-released" else straight, description


def _haze_of(inputs: PathInputs) -> tuple[HazeReader, str]:
    """Return a function for transmission and airlight of a box, and the id of the model behind it."""
    source = haze_source_of(inputs.source, inputs.open_model)
    bands_order = order_of(source, inputs.source)

    def haze_of(box: Region) -> tuple[Tensor, Tensor]:
        maps = side_maps(source, box)
        return maps["transmission"].clamp(min=LEAST_TRANSMISSION), maps["airlight"][:, bands_order]

    model_id = source.plan.model.card.id
    if not inputs.is_small:
        return haze_of, model_id
    transmission, airlight = (InMemory(inputs.region, planes) for planes in haze_of(inputs.region))
    return lambda box: (transmission(box), airlight(box)), model_id


def haze_source_of(target: GradientSource, open_model: OpenModel) -> GradientSource:
    """Return a source with transmission and airlight of the image: the model itself, or another."""
    card = target.plan.model.card
    if {"transmission", "airlight"} <= set(card.maps):
        return target
    # A position-dependent model needs haze pixel by pixel; dcp estimates it from neighbourhoods.
    return open_model("atmosphere" if card.placed else "dcp")


def order_of(other_source: GradientSource, target: GradientSource) -> list[int]:
    """Return the channels of another model or image that match those of `target`; raises `BadParameter`."""
    image, other = target.plan.image, other_source.plan.image
    bands = list(target.plan.bands)
    # Bands of another image are matched by role, else by number.
    if other is not image:
        roles = [image.roles[band] for band in bands]
        if all(role is not None and role in other.roles for role in roles):
            bands = [other.roles.index(role) for role in roles]
    if not set(bands) <= set(other_source.plan.bands):
        name = other_source.plan.model.card.id if other is image else other.name
        raise BadParameter(
            f"{target.plan.model.card.id} sees bands that {name} does not.",
            f"Choose {option('method', 'ig')} with {option('baseline', 'blur', 'zero')}.",
        )
    return [other_source.plan.bands.index(band) for band in bands]


def _baseline(name: str, inputs: PathInputs, clear: GradientSource | None) -> tuple[Planes, str]:
    """Return a reader of the baseline and its description; raises `BadParameter`."""
    if clear is not None:
        like = order_of(clear, inputs.source)
        description = f"the clear image {clear.plan.image.name}"
        return lambda box: clear.image(box)[:, like], description
    if name == "zero":
        return lambda box: (x := inputs.image(box)).new_zeros(()).expand_as(x), "zeros"
    if name == REFERENCE:
        return inputs.source.repeated, "the reference in place of every frame"
    if name == "blur":
        description = f"the image, blurred with σ = {BLUR_SIGMA:g} pixels"
        source = inputs.source
        return lambda box: blurred(source.image, box, BLUR_SIGMA, source.size), description
    if name == "output":
        if isinstance(inputs.source.plan.model, OnInputGrid):
            raise BadParameter(
                "The output of this model has another size than the image, and is no baseline.",
                f"Choose {option('baseline', 'blur', 'zero')}.",
            )
        if inputs.source.plan.staged is not None:
            raise BadParameter(
                "The output of a model that sees the whole image is no baseline here.",
                f"Restore the image first, and name the result with {option('baseline', 'FILE')}.",
            )
        return lambda box: restored(inputs.source, box), "the model's own output"
    if name == "dehazed":
        dehazer = inputs.open_model("dcp")
        bands_order = order_of(dehazer, inputs.source)
        return lambda box: restored(dehazer, box)[:, bands_order], "what dcp makes of the image"
    if not name:
        raise BadParameter(
            "This method goes from a clear image of the same scene to the hazy one.",
            f"Name it with {option('baseline', 'FILE')}, or choose among {', '.join(NAMES)}.",
        )
    raise BadParameter(
        f"There is no baseline {name!r}, nor a file of that name.",
        f"Choose among {', '.join(NAMES)}, or name an image.",
    )


def blurred(image: Planes, box: Region, sigma: float, size: tuple[int, int]) -> Tensor:
    """Return a box (1, C, h, w) of an image of `size` convolved with a Gaussian, truncated at 3 `sigma` pixels."""
    reach = max(1, int(3 * sigma))
    x = around(image, box, reach, size)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    weights = (weights / weights.sum()).to(x)
    bands = x.shape[1]
    x = conv2d(x, weights.view(1, 1, -1, 1).expand(bands, 1, -1, 1), groups=bands)
    return conv2d(x, weights.view(1, 1, 1, -1).expand(bands, 1, 1, -1), groups=bands)
