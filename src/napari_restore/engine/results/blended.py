"""Pixels of a result: those of the source and the restored ones, blended as they are read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import CELL, Region, bounding_box, cut_on_grid, smaller
from napari_restore.engine.ledger.store import ResultStore
from napari_restore.engine.masks.mask_level import mask_at_level
from napari_restore.engine.masks.mask_strength import MaskStrength, pieces_of
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.source import check_unchanged
from napari_restore.engine.results._tone import LocalMeans, Means, Tones, balance_of_grey
from napari_restore.engine.results.luma import LumaModel, blend
from napari_restore.engine.results.quality import QUALITY, Limits, change_bits, value_bits
from napari_restore.engine.results.source_levels import is_affordable, read_source, size_at
from napari_restore.errors import BadParameter, ResourceError
from napari_restore.images import in_16_bits, light_of_srgb, srgb_of_light
from napari_restore.questions import Adjustment

RANGE_PIXELS = 2**20
"""Pixels blended at a time in model range, which takes twice the memory of a plain blend."""


class BlendedPixels:
    """Reads the pixels of a run by the adjustment of `plan` and a mask; `record` is empty before there is one."""

    def __init__(
        self,
        plan: Plan,
        store: ResultStore,
        record: dict[str, Any],
        mask: MaskStrength | None,
    ) -> None:
        self.plan, self.image = plan, plan.image
        self.store, self.record, self.mask = store, record, mask
        self._masks: dict[int, MaskStrength] = {}
        """By level."""
        self._luma_model: LumaModel | None = None
        self._in_16 = False
        self._excluded: MaskStrength | None = None

    @property
    def adjustment(self) -> Adjustment:
        """Settings of the blending of the restored pixels with the source."""
        return self.plan.adjustment

    @property
    def usual(self) -> Adjustment:
        """That of a result that nobody has adjusted."""
        known = self.store.header.get("exposure")
        return Adjustment(exposure=(known if self.image.is_photo else None) or None)

    @property
    def is_plain(self) -> bool:
        """Whether pixels are those of the store."""
        return self.mask is None and self.adjustment.is_neutral

    @property
    def needs_source(self) -> bool:
        """Whether pixels are blended with those of the source; an exposure alone needs none."""
        masked = self.mask is not None or self.plan.reading.exclude is not None
        others = self.adjustment != Adjustment(exposure=self.adjustment.exposure)
        return not self.is_plain and (masked or others or self.image.may_be_invalid)

    def check_source(self, *, compared: bool = False) -> None:
        """Raise `SourceChanged` where pixels would be blended with others than were restored.

        Parameters
        ----------
        compared
            Whether the source is needed, too, where nothing is blended: for maps of the change.
        """
        if compared or self.needs_source:
            check_unchanged(self.image, "since it was restored")

    def read(self, box: tuple[int, int, int, int], level: int = 0) -> npt.NDArray[Any]:
        """Return the blended pixels of a box.

        Levels above 0 are for display: their pixels are computed from those of source and restored
        image at that level, which the plan must include. Raises `ResourceError` if the store lacks
        a pixel that the run was to restore.

        Parameters
        ----------
        box
            (y0, x0, y1, x1), in pixels of `level`.
        level
            Number of the level.

        Returns
        -------
        numpy.ndarray
            (h, w, C) in the image's dtype.
        """
        return self._read(Region(*box), level, check=True)

    def read_landed(self, box: tuple[int, int, int, int], level: int = 0) -> npt.NDArray[Any]:
        """Return the pixels of `read` without its error.

        Parameters
        ----------
        box
            (y0, x0, y1, x1), in pixels of `level`.
        level
            Number of the level.

        Returns
        -------
        numpy.ndarray
            (h, w, C) in the image's dtype, 0 where pixels are not finished yet.
        """
        return self._read(Region(*box), level, check=False)

    def read_16(self, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint16]:
        """Return the pixels of a box of an image of uint8, blended in 16 bits.

        Of a photo that is what the method computed, rounded once; `read` gives the nearest values
        of 8 bits where nothing is blended. Elsewhere they are exact multiples of 257. Raises
        `BadParameter` for an image of another type.

        Parameters
        ----------
        box
            (y0, x0, y1, x1) in pixels of level 0.

        Returns
        -------
        numpy.ndarray
            (h, w, C) uint16.
        """
        if self.image.dtype != np.uint8:
            raise BadParameter(
                f"{self.image.name} has values of {self.image.dtype}, not of 8 bits.",
                "Read the result as it is.",
            )
        # A mask that is opened once serves all boxes.
        self._open_exclusion()
        wide = copy.copy(self)
        wide._in_16, wide._luma_model = True, None
        return wide._read(Region(*box), 0, check=True)

    def _read(self, region: Region, level: int, *, check: bool) -> npt.NDArray[Any]:
        if not 0 <= level < self.store.level_count:
            raise IndexError(f"level {level} of {self.store.level_count}")
        if self.is_plain:
            if check:
                self._check_finished(region, level)
            return self._restored(region, level)
        dtype = np.uint16 if self._in_16 else self.image.dtype
        pixels = np.empty((*region.shape, self.image.bands), dtype)
        tones = self._tones() if self.adjustment.has_tone else None
        means_of = None if tones is None else self._local_means(tones, region, level, check)
        for piece in self._pieces_of(region):
            blended, valid = self._blended(piece, level, check)
            if tones is not None:
                means = None if means_of is None else means_of(piece)
                toned = tones.apply(blended, self.image.nodata, means)
                reach = self._reach(piece, level)
                blended = blend(blended, toned, reach, self.image.nodata, valid)
            pixels[piece.within(region)] = blended
        return pixels

    def _pieces_of(self, region: Region) -> Iterator[Region]:
        if self.adjustment.needs_range:
            return pieces_of(region, pixels=RANGE_PIXELS)
        return pieces_of(region)

    def reaches(self, box: tuple[int, int, int, int], level: int = 0) -> npt.NDArray[np.bool_]:
        """Return which pixels of a box the areas or the mask cover.

        The others are the source's, whatever the adjustment.

        Parameters
        ----------
        box
            (y0, x0, y1, x1), in pixels of `level`.
        level
            Number of the level.

        Returns
        -------
        numpy.ndarray
            (h, w) bool.
        """
        return self._mask_strength_of(Region(*box), level) > 0

    def quality_of(
        self,
        source: npt.NDArray[Any],
        written: npt.NDArray[Any],
        box: tuple[int, int, int, int],
        level: int = 0,
    ) -> npt.NDArray[np.uint8]:
        """Return the bits of `QUALITY` that follow from pixels before and after, nodata and exclusion.

        Parameters
        ----------
        source, written
            (h, w, C) in the image's dtype.
        box
            (y0, x0, y1, x1), in pixels of `level`.
        level
            Number of the level.

        Returns
        -------
        numpy.ndarray
            (h, w) uint8.
        """
        region = Region(*box)
        limits = Limits.of(self.image, self._find_luma_model().radiometry)
        bits = change_bits(value_bits(source, written, limits))
        _, valid = read_source(self.image, region, level)
        if valid is not None:
            bits[~valid] = QUALITY["unchanged"] | QUALITY["nodata"]
        if (excluded := self._excluded_in(region, level)) is not None:
            bits[excluded] = QUALITY["unchanged"] | QUALITY["excluded"]
        return bits

    def measured_exposure(self) -> float:
        """Return the exposure that makes up for what the restoration darkened the picture.

        That is `KEPT` of the change of the median luminance in linear light: of the whole image where
        the model returns it, else of the pixels that a run restores. Then up to 256 small boxes of both
        are read, and `ResourceError` is raised where the run is not finished.

        Returns
        -------
        float
            EV, 0 … 3.
        """
        if (known := self.store.header.get("exposure")) is not None:
            return float(known)
        before, after = [np.empty(0)], [np.empty(0)]
        luma_model = self._find_luma_model()
        for box in sample_boxes(self._reached_box(self.plan.region)):
            reached = self.reaches(box)
            self._check_finished(box, 0, reached.astype(np.float32))
            source, valid = read_source(self.image, box, 0)
            counts = reached if valid is None else reached & valid
            if (excluded := self._excluded_in(box)) is not None:
                counts = counts & ~excluded
            if counts.any():
                before.append(light_luma(source, luma_model)[counts])
                after.append(light_luma(self.store.read(box, "0"), luma_model)[counts])
        return exposure_between(np.concatenate(before), np.concatenate(after))

    def _reached_box(self, region: Region) -> Region:
        """Return the smallest box with all pixels of `region` that `reaches` covers."""
        if self.mask is None:
            return region
        parts = []
        for piece in pieces_of(region):
            reached = self.reaches(piece)
            rows, columns = (np.flatnonzero(reached.any(axis)).tolist() for axis in (1, 0))
            if rows:
                part = Region(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
                parts.append(part.shift(piece.y0, piece.x0))
        return bounding_box(parts) if parts else Region(0, 0, 0, 0)

    def _excluded_in(self, region: Region, level: int = 0) -> npt.NDArray[np.bool_] | None:
        """Return (h, w) which pixels of `region`, in pixels of `level`, the user excluded; None: none."""
        excluded = self._open_exclusion()
        if excluded is None:
            return None
        size = (self.image.height, self.image.width)
        return mask_at_level(excluded, level, size).read(region) > 0

    def _open_exclusion(self) -> MaskStrength | None:
        if self._excluded is None:
            self._excluded = open_exclude(self.plan.reading, self.image)
        return self._excluded

    def _exposed(self, restored: npt.NDArray[Any], ev: float) -> npt.NDArray[Any]:
        luma_model = self._find_luma_model()
        bands = (self.image.is_photo and luma_model.colours) or self.image.data_bands
        return expose(restored, ev, luma_model, bands, self.image.nodata)

    def is_affordable(self, level: int) -> bool:
        """Return whether reading `level` reads a bounded number of pixels for each.

        False where the source is needed and lacks levels; its `build_pyramid` makes them.

        Parameters
        ----------
        level
            Number of the level.

        Returns
        -------
        bool
            True also where the source is not needed.
        """
        return not self.needs_source or is_affordable(self.image, level)

    def _blended(
        self, region: Region, level: int, check: bool
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Return pixels (h, w, C), and which are valid, as `read_source`."""
        if self.adjustment.ev and not self.needs_source:
            if check:
                self._check_finished(region, level)
            return self._exposed(self._restored(region, level), self.adjustment.ev), None
        strength = self._strength_of(region, level)
        if check:
            self._check_finished(region, level, strength)
        source, valid = read_source(self.image, region, level)
        source = in_16_bits(source) if self._in_16 else source
        if not strength.any():
            return source, valid
        restored = self._restored(region, level)
        if not self.adjustment.needs_range:
            return blend(source, restored, strength, self.image.nodata, valid), valid
        strength = self._protected(source, strength)
        if self.adjustment.ev:
            restored = self._exposed(restored, self.adjustment.ev)
            if (excluded := self._excluded_in(region, level)) is not None:
                strength = np.where(excluded, np.float32(0), strength)
        luma_model = self._find_luma_model() if self.adjustment.luminance_only else None
        mixed = blend(source, restored, strength, self.image.nodata, valid, luma_model)
        return mixed, valid

    def _restored(self, region: Region, level: int) -> npt.NDArray[Any]:
        return self.store.read_16(region) if self._in_16 else self.store.read(region, str(level))

    def _reach(self, region: Region, level: int = 0) -> npt.NDArray[np.float32]:
        """Return (h, w) how far tone and colour are changed: as the mask says, not what is excluded."""
        reach = self._mask_strength_of(region, level)
        if (excluded := self._excluded_in(region, level)) is not None:
            reach = np.where(excluded, np.float32(0), reach)
        return reach

    def _local_means(
        self, tones: Tones, region: Region, level: int, check: bool
    ) -> Callable[[Region], Means] | None:
        """Return what gives `Means` of parts of `region`; None where none are needed, or are there."""
        if not self.adjustment.local_contrast:
            return None
        size = size_at(self.image, level)
        extent = Region(0, 0, *size)
        if self.mask is None:
            extent = smaller(self.plan.region, level).intersect(extent)
        local = LocalMeans(extent, max(size))
        around = local.around(region)
        if around.is_empty:
            return None

        def read(part: Region) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
            pixels, valid = self._blended(part, level, check)
            counts = np.ones(part.shape, bool) if valid is None else valid.copy()
            if not check:
                rows, columns = (np.arange(*edges) << level for edges in (part[::2], part[1::2]))
                counts &= self.store.done_at(rows, columns) | ~self.reaches(part, level)
            return tones.tone(pixels), counts

        return local.means(region, list(self._pieces_of(around)), read)

    def _tones(self) -> Tones:
        luma_model = self._find_luma_model()
        bands = luma_model.colours or self.image.data_bands
        # Whole numbers of a photo are display values, whether a profile says so or not.
        is_display = luma_model.is_display or self.image.dtype.kind in "iu"
        return Tones(self.adjustment, luma_model, bands, is_display)

    def grey_balance(self, box: tuple[int, int, int, int]) -> tuple[float, float]:
        """Return the white balance that makes the mean colour of a box grey.

        That is its mean in linear light before tone and colour are changed. Raises `BadParameter`
        where it is black, and for a picture in grey.

        Parameters
        ----------
        box
            (y0, x0, y1, x1) in pixels of level 0.

        Returns
        -------
        tuple of float
            Temperature in kelvin, and tint.
        """
        tones = self._tones()
        if len(tones.bands) == 1:
            raise BadParameter("A picture in grey has no white balance.", "Choose one in colour.")
        pixels, _ = self._blended(Region(*box), 0, check=False)
        light = tones.light(pixels).reshape(-1, 3).mean(axis=0)
        if not (light > 0).all():
            raise BadParameter("Black cannot be made grey.", "Choose a brighter place.")
        return balance_of_grey(light)

    def strength(self, source: npt.NDArray[Any], region: Region) -> npt.NDArray[np.float32]:
        """Return the strength of the blending in a box.

        Parameters
        ----------
        source
            (h, w, C), the pixels of `region` in the source.
        region
            In pixels of level 0.

        Returns
        -------
        numpy.ndarray
            (h, w) float32, 0 … 1.
        """
        return self._protected(source, self._strength_of(region))

    def _strength_of(self, region: Region, level: int = 0) -> npt.NDArray[np.float32]:
        """Return (h, w) strength of the mask and the adjustment, whatever the source."""
        return np.float32(self.adjustment.strength) * self._mask_strength_of(region, level)

    def _mask_strength_of(self, region: Region, level: int) -> npt.NDArray[np.float32]:
        """Return (h, w) strength of the mask alone; 1 without one."""
        if self.mask is None:
            return np.ones(region.shape, np.float32)
        if level not in self._masks:
            size = (self.image.height, self.image.width)
            self._masks[level] = mask_at_level(self.mask, level, size)
        return self._masks[level].read(region)

    def _protected(
        self, source: npt.NDArray[Any], strength: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return `strength` reduced by the protection of the source's shadows and highlights."""
        shadows, highlights = self.adjustment.protect_shadows, self.adjustment.protect_highlights
        if not (shadows or highlights):
            return strength
        return strength * self._find_luma_model().share(source, shadows, highlights)

    def _find_luma_model(self) -> LumaModel:
        if self._luma_model is None:
            luma_model = LumaModel.of_run(self.plan, self.record)
            self._luma_model = luma_model.in_16_bits() if self._in_16 else luma_model
        return self._luma_model

    def _check_finished(
        self, region: Region, level: int, strength: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Raise `ResourceError` if a pixel that counts is not finished in the store."""
        # Where `strength`, of `region` in pixels of `level`, is 0 nothing had to be computed.
        fine = Region(*(edge << level for edge in region))
        for target in self.plan.targets:
            part = target.intersect(fine)
            if part.is_empty or self.store.is_done(part):
                continue
            # The store records of each cell whether it is finished.
            for cell in cut_on_grid(part, CELL):
                part_slices = smaller(cell, level).within(region)
                counts = strength is None or strength[part_slices].any()
                if counts and not self.store.is_done(cell):
                    raise ResourceError(
                        f"The result in {self.store.path} is not complete.", "Run it again."
                    )


Pixels = npt.NDArray[Any]
SAMPLES = 16
"""Boxes down and across an area from which an exposure is measured …"""
SAMPLE_SIDE = 32
"""… and their sides in pixels. A smaller area is read whole."""
MIN_LIGHT = 1e-4
"""Medians of light are limited to this and 1 less this, for images that are nearly black or white."""


def expose(
    pixels: Pixels,
    ev: float,
    luma_model: LumaModel,
    bands: Sequence[int],
    nodata: float | None,
) -> Pixels:
    """Return pixels (h, w, C) exposed by `ev`, in their dtype; only `bands` change.

    Each value is changed as linear light x between black and white: ``g x / (1 + (g - 1) x)`` with
    g = 2^ev. So dark tones are multiplied by g, white stays white, and nothing is clipped; the odds
    x / (1 - x) of every tone are multiplied by g. Beyond black and white the curve goes on along its
    tangents. Light is what the sRGB curve gives for display values, and the value itself for others.
    """
    chosen = tuple(bands)
    before = luma_model.model_values(pixels, chosen)
    after = _curve(_light(before, luma_model), np.exp2(before.dtype.type(ev)))
    if luma_model.is_display:
        after = srgb_of_light(after)
    exposed = pixels.copy()
    exposed[..., list(chosen)] = luma_model.radiometry.apply_change(
        pixels[..., list(chosen)], after - before, chosen, nodata
    )
    return exposed


def light_luma(pixels: Pixels, luma_model: LumaModel) -> Pixels:
    """Return (h, w) luminance in linear light of pixels (h, w, C), 1 at white."""
    values = luma_model.model_values(pixels, luma_model.colours or luma_model.bands)
    return luma_model.luma_of(_light(values, luma_model))


def exposure_between(source: Pixels, restored: Pixels) -> float:
    """Return `exposure_for` the change of the median light, 1-D luminances, from `source` to `restored`."""
    if not source.size:
        return 0.0
    light = np.clip([np.median(source), np.median(restored)], MIN_LIGHT, 1 - MIN_LIGHT)
    before, after = np.log2(light / (1 - light))
    return exposure_for(before - after)


KEPT = 0.7
"""Share of the lost light, in EV, that is given back. With all of it a picture that was freed of fog looks
washed out, without any dark and muddy; judged blind on 32 pictures it was taken more often than 0.4."""


def exposure_for(darkening: float) -> float:
    """Return the exposure in EV, to 1/100, for a result that is so many EV darker than its source."""
    # 0 … `Adjustment.MOST_EV`: a result that is brighter, as of low light, was meant to be.
    return round(float(np.clip(KEPT * darkening, 0, Adjustment.MOST_EV)), 2)


def sample_boxes(area: Region) -> Iterator[Region]:
    """Yield boxes spread evenly over `area`, the same for the same area."""
    if area.is_empty:
        return
    if max(area.shape) <= SAMPLES * SAMPLE_SIDE:
        yield area
        return
    for y in _spread(area.y0, area.y1):
        for x in _spread(area.x0, area.x1):
            yield Region(y, x, y + SAMPLE_SIDE, x + SAMPLE_SIDE).intersect(area)


def _spread(start: int, stop: int) -> list[int]:
    last = max(start, stop - SAMPLE_SIDE)
    return sorted({int(at) for at in np.linspace(start, last, SAMPLES)})


def _light(values: Pixels, luma_model: LumaModel) -> Pixels:
    return light_of_srgb(values) if luma_model.is_display else values


def _curve(light: Pixels, gain: Any) -> Pixels:
    within = np.clip(light, 0, 1)
    exposed: Pixels = gain * within / (1 + (gain - 1) * within)
    exposed += gain * np.minimum(light, 0) + np.maximum(light - 1, 0) / gain
    return exposed
