"""Settings of training crops: shares and ranges, as a table of a TOML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from napari_restore.extension import BadParameter
from napari_restore_lab._questions import Degradation
from napari_restore_lab.synthetic_haze import DISTANCES, SPECTRA, STRENGTH

SHARES = (
    *("aerial", "clear", "degraded", "colour", "exposed", "sky", "mixed", "borrowed", "pale"),
    *("balance", "wide", "metered", "fog", "moved", "camera"),
)
"""Settings from 0 to 1."""


def _default_spectra() -> dict[str, float]:
    return {name: 1.0 for name, spectrum in SPECTRA.items() if not spectrum.for_scores}


@dataclass(frozen=True)
class Recipe:
    """Settings of a batch. Shares are 0 to 1; weights any positive numbers."""

    size: int = 384
    """Pixels along a side of a crop."""
    batch: int = 8
    """Crops in a batch."""
    sizes: tuple[int, ...] = ()
    """Sides of crops in place of `size`, one drawn for each batch, which then has about as many
    pixels as `batch` crops of `size`."""
    degradation: Degradation = "haze"
    """What the crops suffer from: haze, noise, low light, or the exposures of a bracket."""
    smallest: float = 0.12
    """Smallest share of the short side of an image that a crop covers; log-uniform."""
    largest: float = 1.0
    enlarge: float = 1.3
    """Largest upscaling of a crop; smaller crops cover more instead."""
    enlarge_small: float = 2.0
    """Largest upscaling for images smaller than a crop, which would be excluded otherwise."""
    balance: float = 0.5
    """A source is drawn in proportion to the number of its scenes to this power: 0 draws all
    sources equally, 1 all files."""
    extent: float = 2.0
    """The virtual scene of the haze is 1 to so many times as large as the image."""
    aerial: float = 0.6
    """Share of crops of aerial scenes."""
    clear: float = 0.15
    """Share of crops without haze."""
    degraded: float = 0.5
    """Share of crops with noise and compression."""
    colour: float = 0.7
    """Share of crops whose colours are changed."""
    gain: float = 0.15
    """Largest relative change of one channel."""
    saturation: tuple[float, float] = (0.5, 1.7)
    gamma: tuple[float, float] = (0.7, 1.4)
    exposed: float = 0.8
    """Share of crops whose exposure is brought to a median luma within `median`."""
    median: tuple[float, float] = (0.22, 0.55)
    sky: float = 0.15
    """Share of crops of natural scenes with a synthetic sky above a synthetic horizon."""
    mixed: float = 0.05
    """Share of crops of aerial scenes that combine two scenes."""
    borrowed: float = 0.0
    """Share of aerial crops cut from natural scenes, mostly below their skies: other colours and
    textures under an uneven layer of haze, where pictures from above are few."""
    pale: float = 0.0
    """Share of clear crops with thin, even haze that stays in the clear image, so that pale ground or
    constant air light is not learned as haze."""
    strength: tuple[float, float] = STRENGTH
    """Range of exp(−mean optical depth) of aerial haze; see `draw_haze`."""
    wide: float = 0.0
    """Share of hazy crops whose thickness, distances, airlight and light are drawn from many wide
    distributions, not from those of `strength`; see `draw_wide`."""
    metered: float = 0.0
    """Share of hazy crops whose exposure and white balance are set after the haze, as a camera
    does: fog is a middle grey, and what lies behind it is darker."""
    fog: float = 0.0
    """Share of hazy crops under fog that is opaque in places, drifts and is unevenly lit, exposed and
    white-balanced after it, with 8 bits and JPEG; see `draw_fog`."""
    sigma: tuple[float, float] = (0.0, 50.0)
    """Range of the standard deviation of noise, in 255ths; uniform."""
    camera: float = 0.0
    """Share of crops with noise, or in low light, that a camera took and developed: noise of its
    sensor, and what demosaicing, sharpening, resizing and JPEG make of it; see `draw_camera`."""
    iso: tuple[float, float] = (100.0, 25600.0)
    """Range of the ISO of these cameras; log-uniform."""
    darkness: tuple[float, float] = (4.0, 30.0)
    """Range of the factor by which linear light is divided for low light; log-uniform."""
    ev: tuple[float, float] = (1.0, 3.0)
    """Range of the steps between the frames of a bracket, in EV."""
    clipped: tuple[float, float] = (0.02, 0.25)
    """Range of the share of pixels that the middle frame of a bracket clips."""
    moved: float = 0.5
    """Share of brackets in which objects move."""
    farthest: float = 0.4
    """Largest way of these between two frames, as a share of a crop's side."""
    spectra: Mapping[str, float] = field(default_factory=_default_spectra)
    """Weight of each spectrum."""
    distances: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DISTANCES, 1.0))
    """Weight of each kind of synthetic distance in `wide` haze."""

    def __post_init__(self) -> None:
        self._check_shares()
        self._check_ranges()
        self._check_crops()
        self._check_weights()

    @property
    def smallest_side(self) -> int:
        """Side of the smallest crops in pixels."""
        return min(self.sizes, default=self.size)

    @property
    def largest_side(self) -> int:
        """Side of the largest crops in pixels."""
        return max(self.sizes, default=self.size)

    def for_batch(self, seed: int, step: int) -> Recipe:
        """Return the settings of batch `step`, with its one size."""
        if not self.sizes:
            return self
        # A number beyond those of crops, whose generators have the same seed and step.
        number = int(np.random.default_rng((seed, step, 2**32 - 1)).integers(len(self.sizes)))
        return self.by_size()[number]

    @property
    def planes(self) -> int:
        """Planes of a degraded crop: three for each frame."""
        return 9 if self.degradation == "bracket" else 3

    def by_size(self) -> tuple[Recipe, ...]:
        """Return the settings of a batch of each size."""
        if not self.sizes:
            return (self,)
        batches = [max(1, round(self.batch * (self.size / side) ** 2)) for side in self.sizes]
        return tuple(
            replace(self, size=side, batch=batch, sizes=())
            for side, batch in zip(self.sizes, batches, strict=True)
        )

    def _check_shares(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise BadParameter(
                    f"The share {name} is {getattr(self, name):g}.", "Shares are 0 to 1."
                )

    def _check_ranges(self) -> None:
        for name in ("saturation", "gamma", "median", "strength"):
            low, high = getattr(self, name)
            most = 1 if name in ("median", "strength") else math.inf
            if not (0 < low <= high <= most and math.isfinite(high)):
                upto = ", at most 1" if most == 1 else ""
                raise BadParameter(
                    f"{name} is {low:g} to {high:g}.", f"Give low, high above 0{upto}."
                )
        for name, least in (
            *(("sigma", 0), ("iso", 10), ("darkness", 1)),
            *(("ev", 0.3), ("clipped", 0)),
        ):
            low, high = getattr(self, name)
            if not (least <= low <= high and math.isfinite(high)):
                raise BadParameter(
                    f"{name} is {low:g} to {high:g}.", f"Give low, high of at least {least}."
                )

    def _check_crops(self) -> None:
        if not 0 <= self.gain < 1:
            raise BadParameter(
                f"gain is {self.gain:g}.", "It is a share of each channel, from 0 to below 1."
            )
        if self.smallest_side < 16 or self.batch < 1:
            raise BadParameter(
                f"A batch of {self.batch} crops of {self.smallest_side} pixels is too small.",
                "Crops have 16 pixels a side or more.",
            )
        if not 0 < self.smallest <= self.largest <= 1:
            raise BadParameter(
                f"Crops cover {self.smallest:g} to {self.largest:g} of a picture.",
                "Both are above 0 and at most 1.",
            )
        if not (0.03 < self.farthest <= 1 and self.clipped[1] < 1):
            raise BadParameter(
                "farthest and clipped are shares.", "Give farthest above 0.03, both at most 1."
            )
        if not all(1 <= k < math.inf for k in (self.extent, self.enlarge, self.enlarge_small)):
            raise BadParameter(
                "extent, enlarge and enlarge_small are at least 1.", "Give larger ones."
            )

    def _check_weights(self) -> None:
        for known, what, weights in (
            (SPECTRA, "spectrum", self.spectra),
            (DISTANCES, "distance", self.distances),
        ):
            unknown = set(weights) - set(known)
            if unknown:
                raise BadParameter(
                    f"There is no {what} {sorted(unknown)[0]!r}.", f"There are: {', '.join(known)}."
                )
            given = weights.values()
            if not all(math.isfinite(w) and w >= 0 for w in given) or sum(given) <= 0:
                plural = {"spectrum": "spectra", "distance": "distances"}[what]
                raise BadParameter(f"The {plural} have no weights.", "Give positive numbers.")

    def to_table(self) -> dict[str, Any]:
        """Return the settings as a TOML table, for records."""
        table = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: list(value)
            if isinstance(value, tuple)
            else dict(value)
            if isinstance(value, Mapping)
            else value
            for name, value in table.items()
        }
