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

from napari_restore.errors import BadParameter
from napari_restore.questions import SceneKind
from napari_restore.training.data._augment import (
    changed_colours,
    cut_and_paste,
    exposed,
    synthetic_sky,
    with_even_haze,
)
from napari_restore.training.data._pack import Entry, Pack
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.degradation import (
    add_noise,
    darken,
    draw_bracket,
    draw_low_light,
    take_bracket,
)
from napari_restore.training.haze import (
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
class Choice:
    """Scenes of one kind by source, with the probabilities of the sources."""

    sources: tuple[tuple[Entry, ...], ...]
    upto: tuple[float, ...]
    """Cumulative probabilities; the last is 1."""

    @classmethod
    def of(cls, entries: Sequence[Entry], balance: float) -> Choice:
        """Weight each source by the number of its scenes to the power `balance`."""
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.scene.source, []).append(entry)
        weights = np.array([len(group) for group in groups.values()]) ** balance
        upto = tuple(accumulate(float(w) for w in weights / max(weights.sum(), 1e-9)))
        return cls(tuple(tuple(group) for group in groups.values()), upto)

    def draw(self, rng: Generator) -> Entry:
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
            (kind, hazed): Choice.of(
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
        if rng.random() < recipe.clear:
            degraded = clear
        elif recipe.degradation == "noise":
            degraded = add_noise(clear, rng.uniform(*recipe.sigma), rng)
        else:
            degraded = darken(clear, draw_low_light(rng, recipe.darkness, recipe.degraded), rng)
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

    def _choose(self, kind: str, hazed: bool, rng: Generator) -> Entry:
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

    def _cut(self, entry: Entry, rng: Generator, *, aerial: bool, low: bool = False) -> Crop:
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
        entry: Entry,
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
