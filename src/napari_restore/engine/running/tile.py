"""Restoration of one tile: source values in, source values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.store_files import result_levels
from napari_restore.engine.machine.device_memory import DeviceMemory
from napari_restore.engine.machine.failures import FAILURES, as_failure
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.results.quality import QUALITY, Limits, change_bits, value_bits
from napari_restore.engine.running._pixel_counts import count_tile
from napari_restore.engine.running.tile_reader import Mask, TileInput
from napari_restore.engine.statistics.bands import corrected_bands
from napari_restore.images import Radiometry, halve, in_8_bits, in_16_bits
from napari_restore.models import (
    DEADBAND,
    HAZE_EXPONENT,
    Statistics,
    correct_band,
    placed_at,
)

TRUSTED_TRANSMISSION = 0.25
"""Least trusted transmission; below it a haze model divides noise by a small number: bit
``low_transmission``."""


@dataclass
class TileOutput:
    """The restored core and what the journal notes of it."""

    core: Region
    pixels: npt.NDArray[Any]
    """In the dtype that the store keeps."""
    maps: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    levels: list[npt.NDArray[Any]] = field(default_factory=list)
    """The image's dtype: `pixels` halved once, twice … for the result's pyramid."""
    entry: dict[str, Any] = field(default_factory=dict)
    """See `count_tile`."""


@dataclass(frozen=True)
class TileWork:
    """Everything that the tiles of one run share."""

    plan: Plan
    statistics: Statistics
    """On the plan's device."""
    radiometry: Radiometry
    fill: npt.NDArray[np.float32]
    """(len(bands),) model-range value put where pixels are invalid."""
    memory: DeviceMemory

    @cached_property
    def others(self) -> tuple[int, ...]:
        """Bands that the model does not take, to be corrected."""
        plan = self.plan
        corrects = plan.reading.other_bands == "correct"
        return corrected_bands(plan.image, plan.bands) if corrects else ()

    @cached_property
    def limits(self) -> Limits:
        """What is black and white in the image."""
        return Limits.of(self.plan.image, self.radiometry)

    @property
    def reference(self) -> int:
        """Place of the image among all frames of a bracket."""
        others = self.plan.image.companions
        return 0 if others is None else others.reference

    @overload
    def run(self, batch: list[TileInput]) -> list[TileOutput]: ...

    @overload
    def run(self, batch: list[TileInput], *, raw: Literal[True]) -> list[torch.Tensor]: ...

    def run(self, batch: list[TileInput], *, raw: bool = False) -> Sequence[Any]:
        """Restore tiles of equal input shape in one call; `raw`: what it adds to each, (c, h, w) in model range."""
        x, valid = self.stacked(batch), self.known(batch)
        wants_maps = bool(self.plan.maps or self.others) and bool(self.plan.model.card.maps)
        with self.computing():
            x = self.plan.device.take(x)
            valid = None if valid is None else self.plan.device.take(valid)
            statistics = self.statistics_at([tile.input_box for tile in batch], x)
            if wants_maps:
                y, maps = self.plan.model.forward_with_maps(x, statistics, valid)
            else:
                y, maps = self.plan.model(x, statistics, valid), {}
            change = y.float() - self.own(x)
        if raw:
            return list(change)
        maps = {name: values.expand(-1, -1, *x.shape[-2:]) for name, values in maps.items()}
        seen = self.seen(x)
        # They need not lie beside the outputs.
        del x, y, valid, statistics
        return self.outputs(batch, change, maps, seen)

    def outputs(
        self,
        batch: Sequence[TileInput],
        change: torch.Tensor,
        maps: Mapping[str, torch.Tensor],
        seen: torch.Tensor | None,
    ) -> list[TileOutput]:
        """Return the outputs of tiles from the change of their input boxes, (N, c, h, w), maps, and what was `seen`."""
        restored = []
        for i, tile in enumerate(batch):
            rows, columns = tile.inner
            own = {
                name: as_pixels(values[i if len(values) > 1 else 0], rows, columns)
                for name, values in maps.items()
            }
            known = None if seen is None else seen[i, :, rows, columns].cpu().numpy()
            pixels = as_pixels(change[i], rows, columns)
            restored.append(
                self.to_source(
                    tile, pixels, own, None if known is None else np.moveaxis(known, 0, -1)
                )
            )
        return restored

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set up the model's call: its precision, no gradients, memory counted, failures named."""
        try:
            with (
                torch.inference_mode(),
                computing(self.plan.device, self.plan.computing.precision),
                self.memory.watched(),
            ):
                yield
        except FAILURES as error:
            raise as_failure(self.plan.model, error) from error

    def to_model(self, tile: TileInput) -> npt.NDArray[np.float32]:
        """Return (planes, h, w) of `input_box` in model range, filled where invalid.

        The planes are the model's bands; of a bracket those of all frames, dark to bright.
        """
        frames = [(self.radiometry, tile.pixels, tile.valid)]
        if tile.companions:
            others = self.plan.companions_radiometry(self.radiometry)
            frames = [
                (radiometry, each.pixels, each.valid)
                for radiometry, each in zip(others, tile.companions, strict=True)
            ]
            frames.insert(self.reference, (self.radiometry, tile.pixels, tile.valid))
        result = np.empty((len(frames), len(self.plan.bands), *tile.pixels.shape[:2]), np.float32)
        for planes, (radiometry, pixels, valid) in zip(result, frames, strict=True):
            x = radiometry.to_model_tile(pixels, self.plan.bands, out=planes)
            if valid is not None:
                # The value of an invalid pixel must not reach its neighbours.
                x[~valid] = self.fill
        return result.reshape(-1, *result.shape[2:])

    def own(self, x: torch.Tensor) -> torch.Tensor:
        """Return the planes of the image itself among those of `x` (N, planes, h, w)."""
        bands = len(self.plan.bands)
        return x[:, self.reference * bands : (self.reference + 1) * bands]

    def seen(self, x: torch.Tensor) -> torch.Tensor | None:
        """Return `own` of `x` where colours are converted, which the way back need not do again."""
        colour = self.radiometry.colour
        needed = colour is not None and colour.positions(self.plan.bands) is not None
        return self.own(x) if needed else None

    def stacked(self, batch: Sequence[TileInput]) -> torch.Tensor:
        """Return `to_model` of each tile as (N, planes, h, w), in the processor's memory."""
        inputs = [self.to_model(tile) for tile in batch]
        # A planar memory layout: with interleaved input, kernels differ by shape.
        return torch.from_numpy(inputs[0][None] if len(inputs) == 1 else np.stack(inputs))

    def known(self, batch: Sequence[TileInput]) -> torch.Tensor | None:
        """Return the mask (N, frames, h, w) that the model takes; None where it takes none, or all."""
        mask = _together(
            [
                self.frames_known(tile.representative, [each.valid for each in tile.companions])
                for tile in batch
            ]
        )
        return None if mask is None else torch.from_numpy(mask)

    def frames_known(self, own: Mask | None, companions: Sequence[Mask | None]) -> Mask | None:
        """Return the masks (frames, h, w) of the image and its companions, dark to bright; None: none are needed."""
        if not self.plan.model.card.uses_validity:
            return None
        return _together([*companions[: self.reference], own, *companions[self.reference :]])

    def statistics_at(self, input_box: list[Region], x: torch.Tensor) -> Statistics:
        """Return the statistics for one call; a position-dependent model gets the origin of `x`."""
        # A model of scale 1/N gets the sizes of the parts of the image, which lack pixels at its
        # end.
        if self.plan.image.resampling < 1:
            sizes = [self.plan.on_given(box).shape for box in input_box]
            return {**self.statistics, "sizes": torch.tensor(sizes)}
        if not self.plan.model.card.placed:
            return self.statistics
        placed = self.plan.placed
        origins = [(region.y0 - placed.y0, region.x0 - placed.x0) for region in input_box]
        scale = float(self.plan.image.scale)
        return placed_at(self.statistics, origins, scale, x, placed.shape)

    def to_source(
        self,
        tile: TileInput,
        change: npt.NDArray[np.float32],
        maps: dict[str, npt.NDArray[np.float32]],
        seen: npt.NDArray[np.float32] | None = None,
    ) -> TileOutput:
        """Return the tile's output from the core's change and maps, and `seen`, (h, w, c) in model range."""
        source = tile.pixels[tile.inner]
        valid = None if tile.valid is None else tile.valid[tile.inner]
        failed = None
        # A sum is finite only if all are, and takes one pass; if it overflows, the exact check
        # costs time only.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(change.sum())
        if not finite:
            failed = np.logical_not(np.isfinite(change).all(axis=2))
            change = np.where(failed[..., None], 0, change)
        bands = self.plan.bands
        if len(set(bands)) < len(bands):
            # The one band of a grey photo, in place of each that the model takes.
            bands, change = bands[:1], change.mean(axis=2, keepdims=True)
        if self.others:
            change = np.concatenate([change, self._other_changes(source, maps)], axis=2)
            bands = self.plan.bands + self.others
        kept = self._applied(source, change, bands, seen)
        if valid is not None:
            kept = np.where(valid[..., None], kept, self._as_kept(source))
        pixels = in_8_bits(kept) if self.plan.in_16 else kept
        values = value_bits(source, pixels, self.limits)
        quality = self._quality(tile, change_bits(values), maps, valid)
        entry = count_tile(tile.core, self.plan.targets, quality, values, valid, failed)
        kept_maps: dict[str, npt.NDArray[Any]] = {}
        for name in self.plan.maps:
            if name == "quality":
                kept_maps[name] = quality[..., None]
            elif name in maps:
                kept_maps[name] = maps[name]
        levels = self._levels(tile, pixels, valid)
        return TileOutput(tile.core, kept, kept_maps, levels, entry)

    def _levels(
        self, tile: TileInput, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
    ) -> list[npt.NDArray[Any]]:
        if valid is not None and tile.excluded is not None:
            valid = valid | tile.excluded[tile.inner]
        image = self.plan.image
        count = len(result_levels(image)) if self.plan.pyramid else 0
        return halvings(pixels, valid, count, image.nodata)

    def _applied(
        self,
        source: npt.NDArray[Any],
        change: npt.NDArray[np.float32],
        bands: tuple[int, ...],
        seen: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[Any]:
        """Return (h, w, C) `source` with `change` added to `bands`, in the dtype that is kept."""
        nodata, in_16 = self.plan.image.nodata, self.plan.in_16
        if bands == tuple(range(source.shape[2])):
            return self.radiometry.apply_change(source, change, bands, nodata, seen, in_16=in_16)
        pixels = self._as_kept(source)
        chosen = list(bands)
        pixels[..., chosen] = self.radiometry.apply_change(
            source[..., chosen], change, bands, nodata, seen, in_16=in_16
        )
        return pixels

    def _as_kept(self, source: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return in_16_bits(source) if self.plan.in_16 else source.copy()

    def _other_changes(
        self, source: npt.NDArray[Any], maps: dict[str, npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        """Return the change of the bands that the model does not take, from its transmission."""
        x = self.radiometry.to_model_tile(source, self.others)
        reference = self.plan.model.card.transmission_wavelength
        wavelengths = self.plan.image.wavelengths
        if reference is None:
            known = [w for w in (wavelengths[b] for b in self.plan.bands) if w is not None]
            reference = sum(known) / len(known)
        exponent = float(self.statistics.get("exponent", HAZE_EXPONENT))
        airlight, limit = (
            self.statistics[name].cpu().numpy() for name in ("airlight_all", "path_limit")
        )
        changes = [
            correct_band(
                x[..., i],
                maps["transmission"][..., 0],
                float(airlight[band]),
                reference,
                float(wavelengths[band] or reference),
                exponent=exponent,
                deadband=float(self.plan.model.card.values.get("deadband", DEADBAND)),
                limit=float(limit[band]),
            )
            - x[..., i]
            for i, band in enumerate(self.others)
        ]
        return np.stack(changes, axis=2).astype(np.float32)

    def _quality(
        self,
        tile: TileInput,
        quality: npt.NDArray[np.uint8],
        maps: dict[str, npt.NDArray[np.float32]],
        valid: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.uint8]:
        """Return (h, w) bits of `QUALITY` from those of the change."""
        if "transmission" in maps:
            low = maps["transmission"][..., 0] < TRUSTED_TRANSMISSION
            quality[low] |= QUALITY["low_transmission"]
        if valid is not None:
            excluded = np.zeros_like(valid) if tile.excluded is None else tile.excluded[tile.inner]
            quality[~valid] = QUALITY["unchanged"]
            quality[~valid & excluded] |= QUALITY["excluded"]
            quality[~valid & ~excluded] |= QUALITY["nodata"]
        return quality


def _together(masks: Sequence[Mask | None]) -> Mask | None:
    """Return masks of one shape as one array, True in place of those that are None; None: all are."""
    some = next((mask for mask in masks if mask is not None), None)
    if some is None:
        return None
    return np.stack([np.ones_like(some) if mask is None else mask for mask in masks])


def as_pixels(planes: torch.Tensor, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
    """Return the core of (c, h, w) as an (h, w, c) array, band by band in memory."""
    return planes[:, rows, columns].contiguous().cpu().numpy().transpose(1, 2, 0)


def halvings(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None,
    count: int,
    nodata: float | None,
) -> list[npt.NDArray[Any]]:
    """Return `pixels` (h, w, C) halved once, twice … `count` times; `valid` (h, w) as for `halve`."""
    levels = []
    fill = 0.0 if nodata is None else nodata
    for _ in range(count):
        pixels, valid = halve(pixels, valid, fill=fill, nodata=nodata)
        levels.append(pixels)
    return levels
