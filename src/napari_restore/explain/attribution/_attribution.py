"""A finished attribution: its map, measures and record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, peak_in
from napari_restore.explain.attribution import _measures
from napari_restore.explain.attribution._stored_accumulator import opened_sum
from napari_restore.explain.attribution._sums import Summed
from napari_restore.images import ExportOptions, Image, Pixels, SaveOptions, write_image

LARGEST = 1 << 28
"""Most values of a map that is returned as an array in memory; larger ones are dask arrays."""
BLOCKS = 96
"""Blocks along the longer side of an overview in which its shares are shown."""
REGION_TAG, IMAGE_TAG = "NAPARI_RESTORE_REGION", "NAPARI_RESTORE_IMAGE"
"""Tags of a map: its region in pixels of the image, and the fingerprint of that."""
AROUND = 512
"""Margin in pixels of `Attribution.window` around the box."""


class PartialAttribution(NamedTuple):
    """A map that is not finished."""

    region: Region
    values: npt.NDArray[np.float32]
    """(h, w) over `region`: sum over bands, extrapolated from the points so far to the whole path."""
    done: int
    """Points evaluated."""
    total: int
    """Points of the present rule; a finer rule follows if its gap is too large."""


@dataclass(frozen=True)
class OverviewShares:
    """Shares of the pixels of the overview, from which the whole-image statistics are computed."""

    values: npt.NDArray[np.float32] = field(repr=False)
    """(h, w, bands), in units of the objective."""
    step: int
    """Side of an overview pixel in pixels of the image."""
    corner: tuple[int, int]
    """Position (y, x) of the first overview pixel in the image."""

    def blocks(self) -> tuple[npt.NDArray[np.float64], int]:
        """Return sums over bands and square blocks, (h, w) with h, w ≤ `BLOCKS`, and a block's side.

        The side is in pixels of the image. Single pixels would be too small to be visible.
        """
        height, width = self.values.shape[:2]
        side = -(-max(height, width) // BLOCKS)
        rows, columns = np.arange(0, height, side), np.arange(0, width, side)
        signed = self.values.sum(axis=2, dtype=np.float64)
        sums: npt.NDArray[np.float64] = np.add.reduceat(
            np.add.reduceat(signed, rows, axis=0), columns, axis=1
        )
        return sums, side * self.step


@dataclass(frozen=True)
class Attribution:
    """A map of the input pixels' shares in an objective, with the record that reproduces it.

    Bands of a bracket's map are those of all frames, dark to bright.
    """

    total: Summed = field(repr=False)
    box: Region
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: Callable[[Region], npt.NDArray[np.float32]] = field(repr=False)
    """Reads a box of the image, of a bracket of its reference, (h, w, bands) in model range."""
    overview: OverviewShares | None = field(default=None, repr=False)
    """Present where the gradient goes through the context."""

    def __repr__(self) -> str:
        attribution = self.record["attribution"]
        gap = (attribution.get("completeness") or {}).get("relative_gap")
        shape = (*self.region.shape, self.total.bands)
        complete = "" if gap is None else f", completeness gap {100 * gap:.2g} %"
        return (
            f"<Attribution {self.record['model']['id']!r} on {self.image.name!r}: "
            f"{attribution['method']}, {self.box}, map {shape}{complete}>"
        )

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return the map (h, w, bands) for ``np.asarray``."""
        if copy is False:
            raise ValueError("A map is read from its sums: copy=False is not possible.")
        values = np.asarray(self.map)
        return values if dtype is None else values.astype(dtype, copy=False)

    @property
    def region(self) -> Region:
        """Receptive field of the box in level-0 pixels: outside of it all shares are zero."""
        return self.total.region

    @property
    def window(self) -> Region:
        """Part of `region` at most `AROUND` pixels from the box."""
        return window_of(self.box, self.region)

    def contribution_area(self) -> npt.NDArray[np.float64]:
        """Return the density of the magnitude over `window`, (h, w) with maximum 1 (LAM)."""
        near = np.abs(self.read(self.window).sum(axis=2))
        near[~np.isfinite(near)] = 0
        return np.asarray(_measures.contribution_area(near), np.float64)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return the map of a box within the region, (h, w, bands) float32."""
        return np.moveaxis(self.total.read(box), 0, 2).astype(np.float32)

    @property
    def frames(self) -> int:
        """Frames of the bracket that was attributed; 1 for an image."""
        return len(self.image.frames)

    def by_frame(self, box: Region) -> npt.NDArray[np.float32]:
        """Return the shares of each frame in a box within the region, (h, w, frames) float32."""
        shares = self.read(box)
        sums: npt.NDArray[np.float32] = shares.reshape(*shares.shape[:2], self.frames, -1).sum(
            axis=3
        )
        return sums

    @property
    def map(self) -> npt.NDArray[np.float32]:
        """Map over `region`, (h, w, bands) float32 in units of the objective.

        It sums to the record's ``sum``. A dask array where it has more than `LARGEST` values.
        """
        if self.region.pixels * self.total.bands <= LARGEST:
            return self.read(self.region)
        lazy: npt.NDArray[np.float32] = _lazy(self)
        return lazy

    def to_parts(self) -> dict[str, Any]:
        """Return all but the image, for another process: JSON and arrays; sums on disk by their place."""
        return {
            "sums": self.total.to_parts(),
            "box": self.box,
            "record": self.record,
            "overview": self.overview,
        }

    @classmethod
    def of_parts(
        cls,
        parts: Mapping[str, Any],
        image: Image,
        picture: Callable[[Region], npt.NDArray[np.float32]],
    ) -> Self:
        """Return the attribution that `to_parts` was called of; its sums on disk must be there still."""
        total = opened_sum(parts["sums"])
        return cls(total, parts["box"], parts["record"], image, picture, parts["overview"])

    def save(self, path: str | Path, **options: Unpack[SaveOptions]) -> Path:
        """Write a float32 raster of the region with the image's georeference: the sum, then every band.

        Of a bracket: the sum, then every frame, dark to bright.
        `options` are those of `ExportOptions`. The record then names the file. Shares of an overview
        are written to a second file, whose name ends in ``_overview``. Raises `BadOutput`.
        """
        # Imports torch, which a window that shows a map has no need of.
        from napari_restore.engine import digest

        with peak_in(self.record):
            written = self._save(Path(path), options)
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written

    def _save(self, path: Path, options: SaveOptions) -> Path:
        if self.overview is not None:
            self._save_overview(self.overview, overview_path(path), options)
        shares, count = self.read, self.total.bands
        if self.frames > 1:
            shares, count = self.by_frame, self.frames

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            return _with_sum(shares(Region(*box)))

        try:
            written = self._write(
                path, self.image, Pixels(self.region, read, 1 + count, np.float32), options
            )
        except BaseException:
            # Sums on disk are kept, so that the same request need not compute them again.
            self.total.deliver(False)
            raise
        self.total.deliver()
        return written

    def _save_overview(self, overview: OverviewShares, path: Path, options: SaveOptions) -> None:
        step = overview.step
        # The pyramid level with these pixels has the matching georeference.
        like = self.image.level_view(step.bit_length() - 1)
        (y, x), (height, width) = overview.corner, overview.values.shape[:2]
        region = Region(y // step, x // step, y // step + height, x // step + width)

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            return _with_sum(overview.values[Region(*box).within(region)])

        count = 1 + overview.values.shape[2]
        self._write(path, like, Pixels(region, read, count, np.float32), options)

    def _write(
        self,
        path: str | Path,
        like: Image,
        pixels: Pixels,
        options: SaveOptions,
    ) -> Path:
        # Of the map itself, not of an overview.
        place = {
            REGION_TAG: " ".join(map(str, self.region)),
            IMAGE_TAG: self.record["input"]["fingerprint"],
        }
        return write_image(
            path,
            pixels,
            like=like,
            options=ExportOptions(**options),
            tags={
                "NAPARI_RESTORE": "attribution: where the model looked, not why",
                "NAPARI_RESTORE_MODEL": self.record["model"]["id"],
                "NAPARI_RESTORE_METHOD": self.record["attribution"]["method"],
                "NAPARI_RESTORE_BOX": " ".join(map(str, self.box)),
                **(place if like is self.image else {}),
            },
        )


def window_of(box: Region, region: Region) -> Region:
    """Return the part of `region` at most `AROUND` pixels from `box`."""
    return box.expand(AROUND).intersect(region)


def overview_path(path: Path) -> Path:
    """Return the path of the overview's shares that belong to the map at `path`."""
    return path.with_name(f"{path.stem}_overview{path.suffix}")


def _with_sum(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Prepend the sum over all to (h, w, bands or frames)."""
    return np.concatenate([part.sum(axis=2, keepdims=True), part], axis=2)


def _lazy(attribution: Attribution) -> Any:
    """Return the map as a dask array of strips."""
    import dask
    import dask.array

    array: Any = dask.array
    delayed: Any = dask.delayed  # type: ignore[attr-defined]
    bands = attribution.total.bands
    strips = [
        array.from_delayed(delayed(attribution.read)(strip), (*strip.shape, bands), np.float32)
        for strip in attribution.total.strips()
    ]
    return array.concatenate(strips, axis=0)
