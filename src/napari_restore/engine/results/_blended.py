"""Pixels of a result: those of the source and the restored ones, blended as they are read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import CELL, Region, bounding_box, smaller
from napari_restore.engine.ledger._store import ResultStore
from napari_restore.engine.masks._mask_level import mask_at_level
from napari_restore.engine.masks._mask_strength import MaskStrength, pieces_of
from napari_restore.engine.masks._open_mask import open_mask
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.results._exposure import (
    expose,
    exposure_between,
    light_luma,
    sample_boxes,
)
from napari_restore.engine.results._levels import is_affordable, read_source
from napari_restore.engine.results._luma import LumaModel, blend
from napari_restore.engine.results._quality import QUALITY
from napari_restore.errors import ResourceError

RANGE_PIXELS = 2**20
"""Pixels blended at a time in model range, which takes twice the memory of a plain blend."""


class BlendedPixels:
    """Reads the pixels of a run by the adjustment of `plan` and a mask.

    `record` is that of the run; an empty one before it exists. `mask` None: all pixels are meant.
    """

    def __init__(
        self,
        plan: Plan,
        store: ResultStore,
        record: Mapping[str, Any],
        mask: MaskStrength | None,
    ) -> None:
        self.plan, self.image, self.store, self.mask = plan, plan.image, store, mask
        self.adjustment = plan.adjustment
        self._record = record
        self._masks: dict[int, MaskStrength] = {} if mask is None else {0: mask}
        """By level."""
        self._luma_model: LumaModel | None = None
        self._excluded: MaskStrength | None = None

    @property
    def is_plain(self) -> bool:
        """Whether pixels are those of the store."""
        return self.mask is None and self.adjustment.is_neutral

    def with_plan(self, plan: Plan) -> BlendedPixels:
        """Return the same pixels with the adjustment of `plan`; what is known of the image stays."""
        other = copy.copy(self)
        other.plan, other.adjustment = plan, plan.adjustment
        return other

    def read(self, region: Region, level: int, *, check: bool) -> npt.NDArray[Any]:
        """Return pixels (h, w, C) of `region`, in pixels of `level`, in the image's dtype.

        With `check` raises `ResourceError` if the store lacks a pixel that the run was to restore.
        """
        if not 0 <= level < self.store.level_count:
            raise IndexError(f"level {level} of {self.store.level_count}")
        if self.is_plain:
            if check:
                self._check_finished(region, level)
            return self.store.read(region, str(level))
        pixels = np.empty((*region.shape, self.image.bands), self.image.dtype)
        needs_range = self.adjustment.needs_range
        for piece in pieces_of(region, pixels=RANGE_PIXELS) if needs_range else pieces_of(region):
            strength = self._strength_of(piece, level)
            if check:
                self._check_finished(piece, level, strength)
            blended = self._blended(piece, level, strength)
            pixels[piece.within(region)] = blended
        return pixels

    def reaches(self, region: Region, level: int = 0) -> npt.NDArray[np.bool_]:
        """Return which pixels (h, w) of `region`, in pixels of `level`, areas or mask cover.

        The others are the source's, whatever the adjustment.
        """
        if self.mask is None:
            return np.ones(region.shape, bool)
        return self._mask_strength_of(self.mask, region, level) > 0

    def left_out(self, region: Region, level: int = 0) -> npt.NDArray[np.uint8]:
        """Return (h, w) bits of `QUALITY` of the pixels that no run restores.

        They are nodata or excluded. `region` is in pixels of `level`; 0 where pixels count.
        """
        bits = np.zeros(region.shape, np.uint8)
        _, valid = read_source(self.image, region, level)
        if valid is not None:
            bits[~valid] = QUALITY["unchanged"] | QUALITY["nodata"]
        if (excluded := self._excluded_in(region, level)) is not None:
            bits[excluded] = QUALITY["unchanged"] | QUALITY["excluded"]
        return bits

    def measured_exposure(self, region: Region) -> float:
        """Return the exposure in EV that gives the restored pixels of `region` their source's light.

        Compares medians over the pixels that a run restores, on boxes spread over what `reaches`
        covers of `region`. Raises `ResourceError` if one of them is not finished.
        """
        before, after = [np.empty(0)], [np.empty(0)]
        luma_model = self._find_luma_model()
        for box in sample_boxes(self._reached_box(region)):
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
        """Return (h, w) which pixels of `region`, in pixels of `level`, the user excluded.

        None where no mask excludes any.
        """
        if self.plan.reading.exclude is None:
            return None
        if self._excluded is None:
            self._excluded = open_mask(self.plan.reading.exclude, self.image)
        size = (self.image.height, self.image.width)
        return mask_at_level(self._excluded, level, size).read(region) > 0

    def _exposed(self, restored: npt.NDArray[Any], ev: float) -> npt.NDArray[Any]:
        luma_model = self._find_luma_model()
        return expose(restored, ev, luma_model, self.image.data_bands, self.image.nodata)

    def is_affordable(self, level: int) -> bool:
        """Return whether reading `level` reads a bounded number of pixels for each.

        False where the source is needed and lacks levels; its `build_pyramid` makes them.
        """
        return self.is_plain or is_affordable(self.image, level)

    def _blended(
        self, region: Region, level: int, strength: npt.NDArray[np.float32]
    ) -> npt.NDArray[Any]:
        source, valid = read_source(self.image, region, level)
        if not strength.any():
            return source
        restored = self.store.read(region, str(level))
        if not self.adjustment.needs_range:
            return blend(source, restored, strength, self.image.nodata, valid)
        strength = self._protected(source, strength)
        if self.adjustment.ev:
            restored = self._exposed(restored, self.adjustment.ev)
            if (excluded := self._excluded_in(region, level)) is not None:
                strength = np.where(excluded, np.float32(0), strength)
        luma_model = self._find_luma_model() if self.adjustment.luminance_only else None
        return blend(source, restored, strength, self.image.nodata, valid, luma_model)

    def strength(self, source: npt.NDArray[Any], region: Region) -> npt.NDArray[np.float32]:
        """Return the strength (h, w) of the blending with `source`, the pixels of `region`."""
        return self._protected(source, self._strength_of(region))

    def _strength_of(self, region: Region, level: int = 0) -> npt.NDArray[np.float32]:
        """Return (h, w) strength of the mask and the adjustment, whatever the source."""
        strength = np.full(region.shape, self.adjustment.strength, np.float32)
        if self.mask is None:
            return strength
        return strength * self._mask_strength_of(self.mask, region, level)

    def _mask_strength_of(
        self, mask: MaskStrength, region: Region, level: int
    ) -> npt.NDArray[np.float32]:
        """Return (h, w) strength of the mask alone."""
        if level not in self._masks:
            size = (self.image.height, self.image.width)
            self._masks[level] = mask_at_level(mask, level, size)
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
            self._luma_model = LumaModel.of_run(self.plan, self._record)
        return self._luma_model

    def _check_finished(
        self, region: Region, level: int, strength: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Raise `ResourceError` if a pixel that counts is not finished in the store.

        Where `strength`, of `region` in pixels of `level`, is 0 nothing had to be computed.
        """
        fine = Region(*(edge << level for edge in region))
        for target in self.plan.targets:
            part = target.intersect(fine)
            if part.is_empty or self.store.is_done(part):
                continue
            for cell in cells_of(part):
                part_slices = smaller(cell, level).within(region)
                counts = strength is None or strength[part_slices].any()
                if counts and not self.store.is_done(cell):
                    raise ResourceError(
                        f"The result in {self.store.path} is not complete.", "Run it again."
                    )


def cells_of(box: Region) -> Iterator[Region]:
    """Yield the parts of `box` in each cell of which the store records whether it is finished."""
    grid = box.align(CELL)
    for y in range(grid.y0, grid.y1, CELL):
        for x in range(grid.x0, grid.x1, CELL):
            yield Region(y, x, y + CELL, x + CELL).intersect(box)
