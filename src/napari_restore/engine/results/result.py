"""Result of a run: its pixels and side maps, and their files."""

from __future__ import annotations

import copy
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.store import ResultStore
from napari_restore.engine.ledger.store_files import result_levels
from napari_restore.engine.machine.budget import peak_in
from napari_restore.engine.masks.mask_strength import MaskStrength, RegionMask, Within
from napari_restore.engine.masks.open_mask import open_mask
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.results.blended import BlendedPixels
from napari_restore.engine.results.quality import ABOUT_CHANGE, QUALITY
from napari_restore.errors import ResourceError
from napari_restore.images import (
    ExportOptions,
    Pixels,
    SaveOptions,
    adopt_zarr,
    can_adopt,
    chunk_cache,
    data_array,
    html_of,
    lazy_array,
    thumbnail,
    title_of_mask,
    write_image,
)
from napari_restore.questions import Adjustment

CHUNK = (1024, 1024)
"""Pixels of a chunk of `Result.array`."""


class Result(BlendedPixels):
    """The restored pixels of a finished run.

    The plan's adjustment and mask are applied when pixels are read: changing them
    (`with_adjustment`) never runs the model again.
    """

    def __init__(
        self,
        plan: Plan,
        store: ResultStore,
        record: dict[str, Any],
        mask: MaskStrength | None = None,
    ) -> None:
        super().__init__(plan, store, record, mask)
        self.like = plan.image
        """The file whose description the output carries."""
        self.region = plan.region
        if plan.target.mask is not None:
            # With a mask, the output has the source's extent.
            self.region = Region(0, 0, self.like.height, self.like.width)

    @classmethod
    def of_run(cls, plan: Plan, record: dict[str, Any]) -> Result:
        """Return the result of `plan`, whose store is complete.

        Parameters
        ----------
        plan
            The plan that was run.
        record
            What the run measured, as the event `Finished` has it.

        Returns
        -------
        Result
            The result; exposures that are no numbers are found.

        Raises
        ------
        napari_restore.errors.ResourceError
            The store is that of another run.
        """
        store = ResultStore.attach(plan.store)
        if store.header["key"] != plan.key:
            raise ResourceError(
                f"The result in {plan.store} is not the one of this run.", "Run it again."
            )
        mask: MaskStrength | None = None
        if plan.target.mask is not None:
            mask = open_mask(plan.target.mask, plan.image, plan.target.feather)
            if plan.targets != (mask.bounds,):
                # A mask may reach beyond the region; nothing was restored there.
                mask = Within(mask, RegionMask(list(plan.targets)))
        elif len(plan.targets) > 1:
            mask = RegionMask(list(plan.targets))
        result = cls(plan, store, record, mask)
        is_known = record.get("status") == "done" or "exposure" in store.header
        if plan.adjustment.exposure is None or (plan.adjustment.exposure == "auto" and is_known):
            result = result.with_adjustment(plan.adjustment)
        return result

    def with_adjustment(self, adjustment: Adjustment) -> Result:
        """Return the same restored pixels with another adjustment: nothing is run or read for it.

        The exposure "auto" is measured now and becomes a number, and None the usual one. Its record
        contains `adjustment` and no output yet. Raises `BadParameter` if the image lacks the bands that it needs.

        Parameters
        ----------
        adjustment
            Strength, mask edges, exposure, tone and colour.

        Returns
        -------
        Result
            Another result, of the same store.
        """
        adjustment.check(self.image.name, self.image.roles, is_photo=self.image.is_photo)
        exposure, usual = adjustment.exposure, self.usual.exposure
        if exposure == "auto":
            exposure = self.measured_exposure()
        if exposure is None or not (exposure or usual):
            exposure = usual
        adjustment = replace(adjustment, exposure=exposure)
        settings = adjustment.to_dict()
        other = copy.copy(self)
        other.plan = replace(self.plan, adjustment=adjustment)
        other.record = copy.deepcopy(self.record)
        if other.record:
            other.record |= {"adjustment": settings, "output": None}
        if other.record.get("task") is not None:
            other.record["task"]["options"] |= settings
        return other

    def __repr__(self) -> str:
        plan = self.plan
        shape = (*self.region.shape, self.image.bands)
        named = f"{plan.model.card.id!r} on {self.like.name!r}"
        return f"<Result {named}: {shape} {self.image.dtype}, {self.region}>"

    def _repr_html_(self) -> str:
        y, x = self.region.y0, self.region.x0
        levels = {0: self.region.shape}
        for level in range(1, self.store.level_count):
            levels[level] = (self.region.height >> level, self.region.width >> level)
        picture = thumbnail(
            self.image,
            lambda box, n: self.read(Region(*box).shift(y >> n, x >> n), n),
            {n: size for n, size in levels.items() if min(size) > 0},
        )
        seconds = self.record.get("measured", {}).get("seconds")
        adjusted, neutral = self.adjustment.to_dict(), Adjustment().to_dict()
        facts = {
            **self.plan.facts(),
            "needs": "",
            "adjusted": str({k: v for k, v in adjusted.items() if v != neutral[k]} or ""),
            "took": "" if seconds is None else f"{seconds:.1f} s",
        }
        title = f"Result: {self.plan.model.card.title} on {self.like.name}"
        return html_of(title, facts, picture)

    # -- pixels ----------------------------------------------------------------------

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return all pixels (H, W, C) of the region, in the image's dtype, for ``np.asarray``."""
        if copy is False:
            raise ValueError(
                "The pixels of a result are read again each time: copy=False is not possible."
            )
        self.check_source()
        pixels = self.read(self.region)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    @property
    def array(self) -> Any:
        """A dask array (height, width, bands) of the region, in the image's dtype."""
        self.check_source()
        shape = (*self.region.shape, self.image.bands)
        return lazy_array(
            lambda box: self.read(Region(*box).shift(*self.region[:2])),
            shape,
            self.image.dtype,
            CHUNK,
        )

    def to_xarray(self) -> Any:
        """Return a lazy `xarray.DataArray` (band, y, x) of the region, in the image's dtype.

        With coordinates of pixels' centres, roles and wavelengths of bands, CRS and nodata where
        rioxarray looks for them. Raises `BadParameter` where xarray is not installed.

        Returns
        -------
        xarray.DataArray
            Lazy, of the region of the result.
        """
        return data_array(self.array, self.like, self.region[:2], self.like.name)

    # -- files -----------------------------------------------------------------------

    def save(
        self,
        path: str | Path,
        *,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **options: Unpack[SaveOptions],
    ) -> Path:
        """Write the region in the format of the path's suffix.

        The file is written under a temporary name, verified and renamed; its digest enters the
        record. Raises `BadOutput`, `DiskFull`.

        Parameters
        ----------
        path
            The file; its suffix says the format.
        progress
            Called with the parts written, and parts in all.
        cancelled
            Called between parts; once it is true, the call ends by `Cancelled`.
        **options
            Fields of `ExportOptions`, such as ``overwrite``, ``compress``, ``quality``.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        began = time.perf_counter()
        self.check_source()
        # Blending reads the source again, within the budget of the run.
        with chunk_cache.bounded(self.plan.layout.read_cache_bytes), peak_in(self.record):
            written = self._write(Path(path), progress, cancelled, options)
        measured = self.record["measured"]
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        if self.mask is not None:
            self.record["output"]["weight"] = self.mask.digest
        if "run_seconds" in measured:
            seconds = time.perf_counter() - began
            measured["seconds"] = measured["run_seconds"] + seconds
            measured["stages"] = {**measured.get("stages", {}), "write": seconds}
        return written

    def _write(
        self,
        path: Path,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        options: SaveOptions,
    ) -> Path:
        if self._is_whole_store and not set(options) - {"overwrite"} and can_adopt(self.like, path):
            adopted: Path = adopt_zarr(
                self.store.pixels,
                path,
                like=self.like,
                tags=self._tags(),
                overwrite=bool(options.get("overwrite")),
            )
            self.store.moved(adopted)
            return adopted
        clip = options.get("clip")
        outlined = clip == "mask" and self.mask is not None
        return write_image(
            path,
            Pixels(
                self._clipped(clip),
                lambda box: self.read(Region(*box)),
                read_16=lambda box: self.read_16(Region(*box)),
                read_valid=self.like.read_valid if self.like.may_be_invalid else None,
                inside=(lambda box: self.reaches(Region(*box))) if outlined else None,
            ),
            like=self.like,
            options=ExportOptions(**options),
            tags=self._tags(),
            progress=progress,
            cancelled=cancelled,
        )

    def _clipped(self, clip: str | None) -> Region:
        """Return the region that a file has: that of the result, or the smallest around the areas."""
        return self.region if clip is None else self._reached_box(self.plan.region)

    @property
    def _is_whole_store(self) -> bool:
        """Whether the store contains exactly what an output of the whole image needs, unblended."""
        height, width, _ = self.store.shape
        return (
            self.is_plain
            and self.region == Region(0, 0, height, width)
            and self.store.level_count == len(result_levels(self.image)) + 1
            and not self.store.map_names
            and self.store.path.name.endswith(".unfinished")
        )

    def save_maps(self, folder: str | Path, **options: Unpack[SaveOptions]) -> list[Path]:
        """Write the run's side maps as georeferenced GeoTIFFs.

        They describe the pixels that `read` returns: `change` (output − input, source units,
        float32) and the bits *unchanged* and *clipped* of `quality` are computed from them. Where
        the strength is 0, quality is *unchanged* and the model's own maps are NaN.

        Parameters
        ----------
        folder
            Where they are written; it is made if it is missing.
        **options
            Fields of `ExportOptions`; files are replaced unless ``overwrite=False``.

        Returns
        -------
        list of pathlib.Path
            A file for each map, named by it.
        """
        if self.plan.maps:
            self.check_source(compared=True)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        with peak_in(self.record):
            return self._write_maps(target, options)

    def _write_maps(self, target: Path, options: SaveOptions) -> list[Path]:
        chosen: SaveOptions = {"overwrite": True, **options}
        written = []
        for name in self.plan.maps:
            bands = self.image.bands if name == "change" else self._stored(name).shape[0]
            written.append(
                write_image(
                    target / f"{name}.tif",
                    Pixels(
                        self._clipped(options.get("clip")),
                        functools.partial(self.read_map, name),
                        bands,
                        np.float32 if name == "change" else self._stored(name).dtype,
                    ),
                    like=self.like,
                    options=ExportOptions(**chosen),
                    tags=self._tags(),
                )
            )
        return written

    def read_map(self, name: str, box: tuple[int, int, int, int]) -> npt.NDArray[Any]:
        """Return a side map in a box, as `save_maps` writes it.

        Parameters
        ----------
        name
            ``"change"`` or a map that the run kept.
        box
            (y0, x0, y1, x1) in pixels of level 0.

        Returns
        -------
        numpy.ndarray
            (h, w, n).
        """
        region = Region(*box)
        if name == "change":
            return self._change(region)
        if name == "quality":
            return self._quality(region)
        values = self.store.read(region, f"map_{name}")
        if self.mask is not None:
            values[self.mask.read(region) == 0] = np.nan
        return values

    def _stored(self, name: str) -> Any:
        return self.store.array(f"map_{name}")

    def _change(self, region: Region) -> npt.NDArray[np.float32]:
        wide = np.float64 if self.image.dtype.itemsize > 2 else np.float32
        with np.errstate(invalid="ignore"):
            change = self.read(region).astype(wide) - self.image.read(region)
        return change.astype(np.float32)

    def _quality(self, region: Region) -> npt.NDArray[np.uint8]:
        """Return the stored bits, updated for strength and mask."""
        quality: npt.NDArray[np.uint8] = self.store.read(region, "map_quality")
        if self.is_plain:
            return quality
        source = self.image.read(region)
        bits = self.quality_of(source, self.read(region), region)[..., None]
        quality = (quality & ~np.uint8(ABOUT_CHANGE)) | bits
        reach = self._reach(region) if self.adjustment.has_tone else self.strength(source, region)
        quality[reach == 0] = QUALITY["unchanged"]
        return quality

    def _tags(self) -> dict[str, str]:
        """Return what was done as tags of the file; what was not set has none."""
        model, plan = self.record.get("model", {}), self.plan
        zeros = self.record.get("input", {}).get("black") or []
        set_values = {
            "STRENGTH": "" if plan.adjustment.strength == 1 else f"{plan.adjustment.strength:g}",
            "MASK": title_of_mask(plan.target.mask or ""),
            "EXCLUDE": title_of_mask(plan.reading.exclude or ""),
            "ZERO": " ".join(f"{zero:g}" for zero in zeros) if any(zeros) else "",
        }
        return {
            "NAPARI_RESTORE": "appearance restored, not calibrated reflectance",
            "NAPARI_RESTORE_MODEL": str(model.get("id", "")),
            "NAPARI_RESTORE_PARAMETERS": str(model.get("parameters", "")),
            "NAPARI_RESTORE_VERSION": str(self.record.get("version", "")),
            **{f"NAPARI_RESTORE_{name}": text for name, text in set_values.items() if text},
        }


def digest(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's files in the order of their names."""
    total = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            if path.is_dir():
                total.update(str(file.relative_to(path).as_posix()).encode())
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    return total.hexdigest()
