"""Training samples: selection, cropping, augmentation, haze and degradation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_restore.extension import BadParameter
from napari_restore_lab._questions import SceneKind
from napari_restore_lab.data._pack import Pack, PackedScene
from napari_restore_lab.data._recipe import Recipe
from napari_restore_lab.degradation import (
    add_noise,
    darken,
    draw_bracket,
    draw_camera,
    draw_low_light,
    photograph,
    take_bracket,
)
from napari_restore_lab.synthetic_haze import (
    FOG_GREY,
    LUMA,
    MIDDLE_GREY,
    Haze,
    add_haze,
    degrade,
    draw_fog,
    draw_haze,
    draw_wide,
    metered,
    synthetic_distance,
)

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Generator = np.random.Generator

FARTHEST = 12.0
"""Largest ratio of the side of the haze's scene to that of the crop."""

TURNS = {
    (0, False): None,
    (1, False): Image.Transpose.ROTATE_90,
    (2, False): Image.Transpose.ROTATE_180,
    (3, False): Image.Transpose.ROTATE_270,
    (0, True): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, True): Image.Transpose.TRANSPOSE,
    (2, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (3, True): Image.Transpose.TRANSVERSE,
}
"""Pillow operations by quarter turns and mirroring."""


class Sample(NamedTuple):
    """One crop; h = w = the recipe's size, display values 0 to 1."""

    hazy: Array
    """(h, w, 3); of a bracket (h, w, 9), dark to bright."""
    clear: Array
    """(h, w, 3)."""
    haze: Haze | None
    """Applied haze; None without haze."""
    valid: Mask
    """(h, w)."""
    name: str


class Crop(NamedTuple):
    """A square of an image, resized to the recipe's size."""

    rgb: Array
    valid: Mask
    distance: Array | None
    extent: float
    """Ratio of the side of the image to that of the crop."""


@dataclass(frozen=True)
class SourceChoice:
    """Scenes of one kind by source, with the probabilities of the sources."""

    sources: tuple[tuple[PackedScene, ...], ...]
    upto: tuple[float, ...]
    """Cumulative probabilities; the last is 1."""

    @classmethod
    def of(cls, entries: Sequence[PackedScene], balance: float) -> SourceChoice:
        """Weight each source by the number of its scenes to the power `balance`."""
        groups: dict[str, list[PackedScene]] = {}
        for entry in entries:
            groups.setdefault(entry.scene.source, []).append(entry)
        weights = np.array([len(group) for group in groups.values()]) ** balance
        upto = tuple(accumulate(float(w) for w in weights / max(weights.sum(), 1e-9)))
        return cls(tuple(tuple(group) for group in groups.values()), upto)

    def draw(self, rng: Generator) -> PackedScene:
        number = int(np.searchsorted(self.upto, rng.random(), side="right"))
        group = self.sources[min(number, len(self.sources) - 1)]
        return group[int(rng.integers(len(group)))]


class Sampler:
    """Draws samples; each is a function of pack, recipe and random generator."""

    def __init__(self, packed: Pack, recipe: Recipe) -> None:
        self.recipe = recipe
        self._pack = packed
        short = recipe.largest_side / max(recipe.enlarge, recipe.enlarge_small)
        fitting = [entry for entry in packed.entries if min(entry.shape) >= short]
        self.left_out: tuple[str, ...] = tuple(
            entry.scene.name for entry in packed.entries if min(entry.shape) < short
        )
        """Names of scenes too small for the recipe's size."""
        if not fitting:
            raise BadParameter(
                f"No picture is large enough for crops of {recipe.largest_side} pixels.",
                "Make size smaller.",
            )
        self._choices = {
            (kind, hazed): SourceChoice.of(
                [
                    entry
                    for entry in fitting
                    if entry.scene.kind == kind and not (hazed and entry.scene.no_haze_depth)
                ],
                recipe.balance,
            )
            for kind in ("aerial", "natural")
            for hazed in (True, False)
        }
        weights = np.array(list(recipe.spectra.values()))
        self._spectra = tuple(recipe.spectra)
        self._spectrum_chances = weights / weights.sum()

    def with_recipe(self, recipe: Recipe) -> Sampler:
        """Return a sampler of the same scenes for crops of another size."""
        other = copy.copy(self)
        other.recipe = recipe
        return other

    def sample(self, rng: Generator) -> Sample:
        """Draw one crop."""
        if self.recipe.degradation == "haze":
            return self._hazed(rng)
        if self.recipe.degradation == "bracket":
            return self._bracketed(rng)
        return self._degraded(rng)

    def _bracketed(self, rng: Generator) -> Sample:
        """Draw the frames of a bracket, and the truth."""
        recipe = self.recipe
        scene, clear, valid = self._clear(rng)
        *_, other, _ = self._clear(rng)
        bracket = draw_bracket(rng, recipe.ev, recipe.clipped, recipe.degraded)
        motion = (recipe.moved, recipe.farthest)
        frames, truth = take_bracket(clear, other, bracket, motion, rng)
        return Sample(frames, truth, None, valid, scene)

    def _degraded(self, rng: Generator) -> Sample:
        """Draw a crop with noise or in low light."""
        recipe = self.recipe
        scene, clear, valid = self._clear(rng)
        light = None
        if rng.random() < recipe.clear:
            return Sample(clear, clear, None, valid, scene)
        if recipe.degradation == "lowlight":
            light = draw_low_light(rng, recipe.darkness, recipe.degraded)
        if recipe.camera > 0 and rng.random() < recipe.camera:
            degraded, clear = photograph(clear, draw_camera(rng, recipe.iso), rng, light)
        elif light is None:
            degraded = add_noise(clear, rng.uniform(*recipe.sigma), rng)
        else:
            degraded = darken(clear, light, rng)
        return Sample(degraded, clear, None, valid, scene)

    def _clear(self, rng: Generator) -> tuple[str, Array, Mask]:
        """Draw a clear crop; return the name of its scene, its values and validity."""
        recipe = self.recipe
        kind = "aerial" if rng.random() < recipe.aerial else "natural"
        entry = self._choose(kind, False, rng)
        crop = self._cut(entry, rng, aerial=entry.scene.kind == "aerial")
        clear = crop.rgb
        if rng.random() < recipe.exposed:
            clear = exposed(clear, rng.uniform(*recipe.median), entry.median, entry.bright)
        if rng.random() < recipe.colour:
            clear = changed_colours(clear, rng, recipe)
        return entry.scene.name, clear, crop.valid

    def _hazed(self, rng: Generator) -> Sample:
        """Draw a crop with or without haze."""
        recipe = self.recipe
        from_above, hazed = rng.random() < recipe.aerial, rng.random() >= recipe.clear
        borrowed = from_above and recipe.borrowed > 0 and rng.random() < recipe.borrowed
        if borrowed:
            # A haze layer does not depend on distance, so it suits any scene.
            entry = self._choose("natural", False, rng)
        else:
            entry = self._choose("aerial" if from_above else "natural", hazed, rng)
        aerial = borrowed or entry.scene.kind == "aerial"
        sky = not aerial and not entry.distance and rng.random() < recipe.sky
        crop = self._cut(entry, rng, aerial=aerial, low=sky or borrowed)
        clear, valid, distance = crop.rgb, crop.valid, crop.distance
        if rng.random() < recipe.exposed:
            clear = exposed(clear, rng.uniform(*recipe.median), entry.median, entry.bright)
        if aerial and rng.random() < recipe.mixed:
            clear, valid = self._mixed(clear, valid, rng)
        if sky:
            clear, valid, distance = synthetic_sky(clear, valid, rng)
        if rng.random() < recipe.colour:
            clear = changed_colours(clear, rng, recipe)
        if not hazed and recipe.pale > 0 and rng.random() < recipe.pale:
            clear = with_even_haze(clear, rng)
        foggy = hazed and recipe.fog > 0 and rng.random() < recipe.fog
        haze = self._haze(aerial, clear, distance, crop.extent, foggy, rng) if hazed else None
        if haze is not None and not haze.depth.any():
            haze = None  # all zero in this crop
        hazy = clear if haze is None else add_haze(clear, haze)
        if haze is not None and (foggy or (recipe.metered > 0 and rng.random() < recipe.metered)):
            sampled = hazy[::4, ::4][valid[::4, ::4]]
            median = float(np.median(sampled @ LUMA)) if len(sampled) else 0.5
            grey = FOG_GREY if foggy else MIDDLE_GREY
            clear, haze = metered(rng, clear, hazy, haze, median, grey)
            hazy = add_haze(clear, haze)
        if foggy or rng.random() < recipe.degraded:
            hazy = degrade(hazy, rng)
        return Sample(np.clip(hazy, 0, 1), clear, haze, valid, entry.scene.name)

    def _choose(self, kind: str, hazed: bool, rng: Generator) -> PackedScene:
        choice = self._choices[kind, hazed]
        if not choice.sources:
            # The data has one kind only.
            choice = self._choices["natural" if kind == "aerial" else "aerial", hazed]
        if not choice.sources:
            raise BadParameter(
                "No picture suits haze: all are scenes without depth.", "Add landscapes."
            )
        return choice.draw(rng)

    def _haze(
        self,
        aerial: bool,
        clear: Array,
        distance: Array | None,
        extent: float,
        foggy: bool,
        rng: Generator,
    ) -> Haze:
        spectrum = self._spectra[int(rng.choice(len(self._spectra), p=self._spectrum_chances))]
        # The scale of haze relates to the scene, not to the crop.
        wide = min(FARTHEST, extent * float(np.exp(rng.uniform(0, np.log(self.recipe.extent)))))
        if foggy:
            shape, luma = (clear.shape[0], clear.shape[1]), (clear @ LUMA).astype(np.float32)
            if distance is None:
                distance = synthetic_distance(rng, shape, luma, self.recipe.distances)
            scene: SceneKind = "aerial" if aerial else "natural"
            return draw_fog(rng, shape, scene=scene, extent=wide, distance=distance)
        if self.recipe.wide > 0 and rng.random() < self.recipe.wide:
            return draw_wide(
                rng,
                (clear.shape[0], clear.shape[1]),
                scene="aerial" if aerial else "natural",
                spectrum=spectrum,
                extent=wide,
                distance=None if aerial else distance,
                guide=(clear @ LUMA).astype(np.float32),
                distances=self.recipe.distances,
            )
        ramp = not aerial and distance is None
        return draw_haze(
            rng,
            (clear.shape[0], clear.shape[1]),
            scene="aerial" if aerial else "natural",
            spectrum=spectrum,
            extent=wide,
            distance=None if aerial else distance,
            guide=(clear @ LUMA).astype(np.float32) if ramp else None,
            strength=self.recipe.strength,
        )

    def _mixed(self, clear: Array, valid: Mask, rng: Generator) -> tuple[Array, Mask]:
        """Combine the crop with a part of another aerial scene."""
        other = self._choices["aerial", True].draw(rng)
        crop = self._cut(other, rng, aerial=True)
        target = rng.uniform(*self.recipe.median)
        pasted = exposed(crop.rgb, target, other.median, other.bright)
        return cut_and_paste(clear, valid, pasted, crop.valid, rng)

    def _cut(self, entry: PackedScene, rng: Generator, *, aerial: bool, low: bool = False) -> Crop:
        """Crop a square at random scale and position, antialiased and randomly mirrored.

        With `aerial` it is also rotated. With `low` it is in the lower half of the possible
        positions: ground rather than sky.
        """
        recipe, size = self.recipe, self.recipe.size
        short = min(entry.shape)
        share = np.exp(rng.uniform(np.log(recipe.smallest), np.log(recipe.largest)))
        max_scale = recipe.enlarge if short * recipe.enlarge >= size else recipe.enlarge_small
        side = min(float(short), max(short * float(share), size / max_scale))
        down, right = (whole - side for whole in entry.shape)
        y, x = rng.uniform(down / 2 if low else 0, down), rng.uniform(0, right)
        # The coarsest level with at least the requested resolution.
        level = min(len(entry.levels) - 1, max(0, int(np.floor(np.log2(side / size)))))
        box = (x, y, x + side, y + side)
        turns = int(rng.integers(4)) if aerial else 0
        transpose = TURNS[turns, bool(rng.random() < 0.5)]
        rgb = self._resampled(entry, "levels", level, box, transpose)
        valid = np.ones((size, size), np.bool_)
        if entry.valid:
            valid = self._resampled(entry, "valid", level, box, transpose) > 0.999
        distance = None
        if entry.distance:
            distance = self._resampled(entry, "distance", level, box, transpose)
        return Crop(rgb, valid, distance, max(1.0, short / side))

    def _resampled(
        self,
        entry: PackedScene,
        which: str,
        level: int,
        box: tuple[float, float, float, float],
        transpose: Image.Transpose | None,
    ) -> Array:
        """Resample `box` (x0, y0, x1, y1) in level-0 pixels to the recipe's size, 0 to 1."""
        parts = {"levels": entry.levels, "valid": entry.valid, "distance": entry.distance}[which]
        values = self._pack.view(parts[level])
        height, width = values.shape[:2]
        x0, y0, x1, y1 = (side / 2**level for side in box)
        x1, y1 = min(x1, width), min(y1, height)
        # Copy only the support of the filter from the file.
        reach = int(np.ceil(3 * max(1.0, (x1 - x0) / self.recipe.size))) + 1
        left, top = max(0, int(x0) - reach), max(0, int(y0) - reach)
        right, low = min(width, int(x1) + reach + 1), min(height, int(y1) + reach + 1)
        piece = Image.fromarray(np.ascontiguousarray(values[top:low, left:right]))
        if which == "valid":
            piece = piece.point(lambda code: 255 * code)
        size = self.recipe.size
        fine = Image.Resampling.BICUBIC if which == "levels" else Image.Resampling.BILINEAR
        out = piece.resize((size, size), fine, box=(x0 - left, y0 - top, x1 - left, y1 - top))
        if transpose is not None:
            out = out.transpose(transpose)
        scaled: Array = np.asarray(out, np.float32)
        scaled /= np.float32(255)
        return scaled


BRIGHTEST = 1.05
"""Largest luma of the brightest hundredth of an image after exposure."""
LIFT = 3.0
"""Largest factor of exposure for the median luma of a dark image."""
MAX_EVEN_HAZE = 0.2
"""Largest share of even haze that stays in a clear image."""
GAMMA_LIMITS = (0.6, 1.6)
"""Limits of the exponent of exposure, where a gain alone would clip."""


def exposed(clear: Array, target: float, median: float, bright: float) -> Array:
    """Return (h, w, 3) exposed so that the median luma of the whole image is `target`.

    A gain as far as its brightest parts (luma `bright`) allow, a power for the remainder: a gain
    preserves black, as exposure does, while a power lifts it, as haze does.
    """
    median = float(np.clip(median, 0.01, 0.99))
    # A stronger lift would turn night images uniformly grey.
    target = min(target, LIFT * median)
    gain = float(np.clip(target / median, 0.4, max(1.0, BRIGHTEST / max(bright, 0.05))))
    reached = min(0.99, median * gain)
    gamma = float(np.clip(np.log(target) / np.log(reached), *GAMMA_LIMITS))
    lit: Array = np.clip(clear * np.float32(gain), 0, 1)
    if abs(gamma - 1) > 0.02:
        lit **= np.float32(gamma)
    return lit


def changed_colours(clear: Array, rng: Generator, recipe: Recipe) -> Array:
    """Return (h, w, 3) with random white balance, saturation and gamma."""
    gains = (1 + rng.uniform(-recipe.gain, recipe.gain, 3)).astype(np.float32)
    low, high = np.log(recipe.saturation)
    saturation = np.float32(np.exp(rng.uniform(low, high)))
    low, high = np.log(recipe.gamma)
    gamma = np.float32(np.exp(rng.uniform(low, high)))
    out: Array = clear * gains
    grey = (out @ LUMA)[..., None] * (1 - saturation)
    out *= saturation
    out += grey
    np.clip(out, 0, 1, out=out)
    out **= gamma
    return out


def with_even_haze(clear: Array, rng: Generator) -> Array:
    """Return (h, w, 3) under thin, even, nearly grey haze, which lifts black."""
    part = rng.uniform(0, MAX_EVEN_HAZE)
    veil = rng.uniform(0.7, 1.0) * (1 + rng.uniform(-0.1, 0.1, 3))
    out: Array = clear * np.float32(1 - part)
    out += (part * veil).astype(np.float32)
    return np.clip(out, 0, 1, out=out)


def cut_and_paste(
    clear: Array, valid: Mask, other: Array, other_valid: Mask, rng: Generator
) -> tuple[Array, Mask]:
    """Combine two crops: along a straight edge, or one as a patch in the other."""
    height, width = valid.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    if rng.random() < 0.5:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
        chosen = x * np.cos(angle) + y * np.sin(angle) > offset
    else:
        cy, cx = rng.uniform(-0.6, 0.6, 2)
        hy, hx = rng.uniform(0.2, 0.7, 2)
        chosen = (np.abs(y - cy) < hy) & (np.abs(x - cx) < hx)
    return np.where(chosen[..., None], other, clear), np.where(chosen, other_valid, valid)


def synthetic_sky(clear: Array, valid: Mask, rng: Generator) -> tuple[Array, Mask, Array]:
    """Replace the upper part of an image by a synthetic sky above a ridge.

    Returns image (h, w, 3), validity (h, w) and distance (h, w), 0 near to 1 far: the ground recedes
    to the ridge; the sky has one distance, or a decreasing one upwards, as air thins out.
    """
    height, width = valid.shape
    horizon = float(rng.uniform(0.15, 0.6)) * height
    knots = np.cumsum(rng.standard_normal(int(rng.integers(4, 40)))) * rng.uniform(0, 0.03)
    # The ridge does not reach below the horizon.
    knots -= knots.max()
    ridge = np.interp(np.linspace(0, len(knots) - 1, width), np.arange(len(knots)), knots)
    ridge = np.clip(horizon + ridge * height, 2, horizon)
    rows = np.arange(height, dtype=np.float32)[:, None]
    cover = np.clip(ridge[None, :] - rows + 0.5, 0, 1).astype(np.float32)
    sky = _sky(rng, np.clip(1 - rows / np.float32(ridge.max()), 0, 1), width)
    picture = cover[..., None] * sky + (1 - cover[..., None]) * clear
    # The ground ends at the horizon; objects above it have the distance of the horizon.
    ground = np.clip((rows - horizon) / (height - horizon), 0, 1)
    distance = (1 - ground) ** rng.uniform(0.8, 3.0)
    thin = float(rng.uniform(0.0, 0.7))
    above = 1 - thin * np.clip((ridge[None, :] - rows) / ridge[None, :], 0, 1)
    far = np.where(cover > 0.5, above, distance).astype(np.float32)
    return picture.astype(np.float32), valid | (cover > 0.99), far


def _sky(rng: Generator, up: npt.NDArray[np.floating], width: int) -> Array:
    """Draw a sky (h, width, 3) from the horizon (`up` (h, 1) 0) to the zenith (1): blue, grey or warm."""
    kind = rng.random()
    if kind < 0.7:
        zenith = np.array([rng.uniform(0.08, 0.4), rng.uniform(0.25, 0.6), rng.uniform(0.55, 0.95)])
        pale = rng.uniform(0.1, 0.8)
        low = zenith + (np.array([0.85, 0.9, 0.95]) - zenith) * pale
    elif kind < 0.88:
        grey = rng.uniform(0.45, 0.95)
        zenith = grey + rng.uniform(-0.03, 0.05, 3)
        low = zenith + rng.uniform(-0.08, 0.12)
    else:
        zenith = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.7)])
        low = np.array([rng.uniform(0.8, 1.0), rng.uniform(0.45, 0.75), rng.uniform(0.25, 0.6)])
    curve = up ** rng.uniform(0.5, 1.5)
    across = 1 + rng.uniform(-0.08, 0.08) * np.linspace(-1, 1, width)
    colour = low + (zenith - low) * curve[..., None]
    sky: Array = np.clip(colour * across[None, :, None], 0, 1).astype(np.float32)
    return sky
