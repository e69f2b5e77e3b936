"""GeoTIFF, BigTIFF and cloud optimised GeoTIFF, with all metadata of the source."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._georeference import Georeference
from napari_restore.images._profile import PER_BAND, Profile
from napari_restore.images._source import Level
from napari_restore.images.export import exif
from napari_restore.images.export._job import (
    BLOCK,
    BLOCK_BYTES,
    DamagedOutput,
    ExportJob,
    PixelBlock,
    disk_full_raised,
    same_pixels,
)
from napari_restore.images.export._tiff_levels import append_overviews
from napari_restore.images.files.descriptions import fitting, is_ome, is_structure, resolution_in
from napari_restore.images.files.exif_directories import Field
from napari_restore.images.files.handles import (
    DatasetKey,
    environment,
    open_dataset,
    open_for_writing,
)
from napari_restore.images.files.tiff import GDAL_METADATA, check_whole, read_directories
from napari_restore.images.levels.reduce import level_sizes
from napari_restore.images.levels.row_pyramid import RowPyramid
from napari_restore.questions import Format

BIGTIFF_BYTES = 2 << 30
STRIP_ROWS = 16
_NOT_COPIED = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "COLOR_PROFILE")
_LOSSY = ("jpeg",)
DESCRIPTION = "TIFFTAG_IMAGEDESCRIPTION"


def write(job: ExportJob, path: Path) -> None:
    """Write `job` to `path`, in the memory of a few rows of tiles."""
    # An independent name: the COG driver copies from a finished file.
    plain = path.with_name(f"{path.stem}.plain{path.suffix}") if job.options.cog else path
    profile, more = job.profile, dict[int, Field]()
    try:
        with _environment(job), disk_full_raised(path):
            if OverviewFiles.suit(job):
                _write_with_levels(job, plain)
            else:
                write_pixels(job, plain, job.profile)
                if overview_sizes(job):
                    job.check_cancelled()
                    add_overviews(job, plain, _interleave(job))
            if job.options.cog:
                job.check_cancelled()
                _copy_as_cog(job, plain, path)
                text = read_directories(plain).tags.get(GDAL_METADATA)
                if text != read_directories(path).tags.get(GDAL_METADATA):
                    # The driver leaves out the tags of bands.
                    more = {GDAL_METADATA: Field(2, bytes(text or ()))}
    finally:
        if plain != path:
            plain.unlink(missing_ok=True)
            plain.with_name(plain.name + ".aux.xml").unlink(missing_ok=True)
    if not (profile.exif or profile.iptc or more):
        return
    if not job.options.cog:
        exif.add_to_tiff(path, profile.exif, profile.iptc)
        return
    bare = path.replace(plain)
    try:
        with disk_full_raised(path):
            exif.splice_cog(bare, path, profile.exif, profile.iptc, more)
    finally:
        bare.unlink(missing_ok=True)


def check(job: ExportJob, path: Path) -> None:
    """Open `path` again and compare. Raises `DamagedOutput`."""
    creation = check_whole(path)
    for tag in (279, 325):
        if 0 in creation.tags.get(tag, ()):
            raise DamagedOutput("a block is missing")
    with environment(), open_dataset(DatasetKey(str(path))) as dataset:
        check_size(job, dataset, job.bands)
        for sample in job.samples:
            height, width = sample.pixels.shape[:2]
            window = ((sample.y, sample.y + height), (sample.x, sample.x + width))
            pixels = dataset.read(window=window).transpose(1, 2, 0)
            if not same_pixels(pixels, sample.pixels, lossy=job.options.compress in _LOSSY):
                raise DamagedOutput(f"pixels at row {sample.y}, column {sample.x} differ")
            if sample.valid is not None and job.writes_mask:
                if ((dataset.dataset_mask(window=window) != 0) != sample.valid).any():
                    raise DamagedOutput(f"the mask at row {sample.y}, column {sample.x} differs")


def check_size(job: ExportJob, dataset: Any, bands: int) -> None:
    """Raise `DamagedOutput` for a file of another size or data type than was written."""
    if (dataset.height, dataset.width, dataset.count) != (job.height, job.width, bands):
        raise DamagedOutput("its size differs")
    if any(np.dtype(name) != job.dtype for name in dataset.dtypes):
        raise DamagedOutput("its data type differs")


def _environment(job: ExportJob) -> Any:
    return environment(GDAL_NUM_THREADS=str(job.options.workers), GDAL_TIFF_INTERNAL_MASK=True)


def write_pixels(
    job: ExportJob,
    path: Path,
    profile: Profile,
    levels: OverviewFiles | None = None,
    *,
    strips: bool = False,
) -> None:
    """Write a TIFF described by `profile`, in `strips` of a few rows or not; `levels` receive the same pixels."""
    with_valid = job.writes_mask or (levels is not None and job.may_be_invalid)
    creation = _creation(job)
    if strips:
        # Without a block width: GDAL warns of one that is ignored.
        del creation["blockxsize"]
        creation |= {"tiled": False, "blockysize": STRIP_ROWS}
    with open_for_writing(path, **creation) as dataset, BandMasks(job, path) as masks:
        _describe(job, dataset, profile)
        for block in job.blocks(BLOCK, with_valid=with_valid, whole_rows=levels is not None):
            height, width = block.pixels.shape[:2]
            window = ((block.y, block.y + height), (block.x, block.x + width))
            dataset.write(block.pixels.transpose(2, 0, 1), window=window)
            if job.writes_mask and block.valid is not None:
                dataset.write_mask(block.valid, window=window)
            masks.add(block)
            if levels is not None:
                levels.add(block)


class BandMasks:
    """The sidecar with a mask for each band, where bands differ."""

    # Within the file, a GeoTIFF has one mask for all of them; GDAL prefers the sidecar to nodata.
    def __init__(self, job: ExportJob, path: Path) -> None:
        self._job, self._stack = job, ExitStack()
        self.path = path.with_name(path.name + ".msk")
        self._dataset: Any = None

    def __enter__(self) -> BandMasks:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        self._stack.close()
        if kind is None and self._dataset is not None and (sizes := overview_sizes(self._job)):
            from rasterio.enums import Resampling

            # Else GDAL takes all of an overview for valid.
            with open_for_writing(self.path, "r+") as dataset:
                steps = [2**step for step in range(1, len(sizes) + 1)]
                dataset.build_overviews(steps, Resampling.nearest)

    def add(self, block: PixelBlock) -> None:
        """Write the masks of a block of pixels."""
        job, size = self._job, block.pixels.shape[:2]
        valid = job.band_masks(block.y, block.x, (size[0], size[1]))
        if valid is None:
            return
        if self._dataset is None:
            own = {"dtype": "uint8", "compress": "deflate", "bigtiff": "IF_SAFER"}
            creation = _tiled(job) | own
            self._dataset = self._stack.enter_context(open_for_writing(self.path, **creation))
            # 0: each mask is of its own band.
            numbers = range(1, job.bands + 1)
            self._dataset.update_tags(**{f"INTERNAL_MASK_FLAGS_{n}": "0" for n in numbers})
        window = ((block.y, block.y + size[0]), (block.x, block.x + size[1]))
        self._dataset.write(valid.transpose(2, 0, 1).astype(np.uint8) * 255, window=window)


def _write_with_levels(job: ExportJob, path: Path) -> None:
    levels = OverviewFiles(job, path, _creation(job))
    try:
        with levels:
            write_pixels(job, path, job.profile, levels)
        levels.join(path)
    finally:
        levels.remove()


def _creation(job: ExportJob) -> dict[str, Any]:
    """Return the options GDAL creates the file with."""
    like, options = job.like, job.options
    keep = job.source_bands
    creation: dict[str, Any] = {
        **_tiled(job),
        "dtype": job.dtype.name,
        "bigtiff": "YES" if _is_big(job) else "NO",
        "num_threads": options.workers,
        "interleave": _interleave(job),
        "photometric": "MINISBLACK",
        **_compression(job),
    }
    if job.bits is not None:
        creation["nbits"] = job.bits
    names = _colour_names(job)
    if names[:3] == ["red", "green", "blue"]:
        creation["photometric"] = "RGB"
    if options.compress == "jpeg" and job.bands == 3 and creation["photometric"] == "RGB":
        creation["photometric"] = "YCBCR"
    if keep is not None and "alpha" in names:
        creation["alpha"] = "UNSPECIFIED" if names.index("alpha") != job.bands - 1 else "YES"
        if job.premultiplied is not None:
            creation["alpha"] = "PREMULTIPLIED"
    if job.nodata is not None:
        creation["nodata"] = job.nodata
    place = like.georeference.shifted(job.box[1], job.box[0]) if like.georeference else None
    if place is not None:
        if place.crs_wkt:
            creation["crs"] = place.crs_wkt
        if place.transform is not None:
            from rasterio.transform import Affine

            creation["transform"] = Affine(*place.transform)
    return creation


def _tiled(job: ExportJob) -> dict[str, Any]:
    """Return the options of a TIFF of tiles with the size and number of bands of the output."""
    return {
        "driver": "GTiff",
        "height": job.height,
        "width": job.width,
        "count": job.bands,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
    }


def _is_big(job: ExportJob) -> bool:
    """Return whether offsets may need more than 32 bits."""
    # This is decided in advance, as all levels must agree.
    pixels = job.height * job.width * (job.bands * job.dtype.itemsize + job.writes_mask)
    # All overviews together have a third of the pixels.
    return pixels * 4 / 3 > BIGTIFF_BYTES


def _compression(job: ExportJob) -> dict[str, Any]:
    options = job.options
    if options.compress == "none":
        return {}
    creation: dict[str, Any] = {"compress": options.compress}
    if options.compress == "jpeg":
        return creation | {"jpeg_quality": options.quality or Format.USUAL_QUALITY}
    if job.bits is None:
        creation["predictor"] = 3 if job.dtype.kind == "f" else 2
    level = options.level or 1
    return creation | {"deflate": {"zlevel": level}, "zstd": {"zstd_level": level}}.get(
        options.compress, {}
    )


def _interleave(job: ExportJob) -> str:
    """Return the source's own order, else by pixel for pictures and by band for many bands."""
    interleave = job.like.profile.interleave
    if job.options.separate:
        return "band"
    if job.options.compress == "jpeg" and job.bands > 4:
        return "band"  # libjpeg takes four components
    if job.source_bands is not None and interleave in ("pixel", "band") and job.like.profile.tiled:
        return interleave
    return "pixel" if job.bands <= 4 else "band"


def _colour_names(job: ExportJob) -> list[str]:
    if len(job.profile.colorinterp) == job.bands:
        return list(job.profile.colorinterp)
    if job.source_bands is None or not any(job.like.roles[: job.bands]):
        return ["gray", *["undefined"] * (job.bands - 1)]
    known = ("red", "green", "blue", "gray", "alpha")
    roles = [job.like.roles[b] for b in job.source_bands]
    return [role if role in known else "undefined" for role in roles]


def _describe(job: ExportJob, dataset: Any, profile: Profile) -> None:
    """Write all metadata of the source but pixels, size and transform."""
    like = job.like
    if job.source_bands is not None:
        _describe_bands(job, dataset, profile)
    if like.georeference:
        _describe_place(dataset, like.georeference.shifted(job.box[1], job.box[0]))
    for number, name in enumerate(job.pixels.names, 1):
        dataset.set_band_description(number, name)
    if job.tags:
        dataset.update_tags(**job.tags)


def _describe_bands(job: ExportJob, dataset: Any, profile: Profile) -> None:
    """Write the metadata of the source and of those of its bands that the file has."""
    from rasterio.enums import ColorInterp

    dataset.colorinterp = [ColorInterp[name] for name in _colour_names(job)]
    for space, tags in profile.tags.items():
        # The XMP packet itself is better than GDAL's list cut from it.
        if not (space == "xml:XMP" and profile.xmp):
            _set_tags(dataset, None, space, tags)
    _describe_page(job, dataset, profile)
    _describe_each_band(dataset, profile)
    if profile.icc:
        dataset.update_tags(
            ns="COLOR_PROFILE", SOURCE_ICC_PROFILE=base64.b64encode(profile.icc).decode()
        )
    if profile.xmp:
        _set_xmp(dataset, profile.xmp)


def _describe_each_band(dataset: Any, profile: Profile) -> None:
    for number, spaces in enumerate(profile.band_tags, 1):
        for space, tags in spaces.items():
            _set_tags(dataset, number, space, tags)
    for number, name in enumerate(profile.descriptions, 1):
        if name is not None:
            dataset.set_band_description(number, name)
    for field in ("scales", "offsets", "units"):
        values = getattr(profile, field)
        if any(value != PER_BAND[field] for value in values):
            setattr(dataset, field, ["" if value is None else value for value in values])


def _describe_page(job: ExportJob, dataset: Any, profile: Profile) -> None:
    """Write the resolution, and a description of pages that is true of the one page."""
    tags = profile.tags.get("", {})
    text = tags.get(DESCRIPTION, "")
    if is_structure(text):
        shape = (job.height, job.width, job.bands)
        fits = fitting(text, profile, shape, job.dtype.name, job.grid)
        if fits is not None:
            dataset.update_tags(**{DESCRIPTION: fits})
        if fits is not None and not is_ome(fits):
            return  # ImageJ counts its own unit in the tags of the resolution
    given = resolution_in(tags)  # copied as it is
    if job.like.georeference is None and profile.resolution not in (None, given):
        assert profile.resolution is not None
        across, down = (repr(float(dots)) for dots in profile.resolution)
        dataset.update_tags(
            TIFFTAG_XRESOLUTION=across, TIFFTAG_YRESOLUTION=down, TIFFTAG_RESOLUTIONUNIT="2"
        )


def _describe_place(dataset: Any, place: Georeference) -> None:
    """Write what places the file on a map, but for the transform."""
    if place.area_or_point:
        dataset.update_tags(AREA_OR_POINT=place.area_or_point)
    if place.gcps and place.transform is None:
        _set_control_points(dataset, place)
    if place.rpcs:
        dataset.update_tags(ns="RPC", **{k: str(v) for k, v in place.rpcs.items()})


def current_tags(space: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return those of a namespace's tags that are true of new pixels as well."""
    if space in _NOT_COPIED:
        return {}
    # Without the source's statistics, descriptions of its pages, and GDAL's text copies of EXIF,
    # whose orientation was applied already; EXIF itself is carried as such.
    stale = ("STATISTICS_", "EXIF_") if space == "" else ("STATISTICS_",)
    return {
        name: text
        for name, text in tags.items()
        if not name.startswith(stale) and not (name == DESCRIPTION and is_structure(text))
    }


def _set_tags(dataset: Any, band: int | None, space: str, tags: Mapping[str, str]) -> None:
    current = current_tags(space, tags)
    if current:
        arguments = {"ns": space} if space else {}
        dataset.update_tags(*([band] if band else []), **arguments, **current)


def _set_xmp(dataset: Any, xmp: bytes) -> None:
    """Set the domains of XML, one text each, which GDAL's list of NAME=VALUE cuts at "="."""
    name, sign, value = xmp.decode("utf-8", "replace").rstrip("\0").partition("=")
    if sign:
        dataset.update_tags(ns="xml:XMP", **{name: value})


def _set_control_points(dataset: Any, place: Any) -> None:
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS

    points = [
        GroundControlPoint(p.row, p.column, p.x, p.y, p.z, p.id or None, p.info or None)
        for p in place.gcps
    ]
    crs = place.gcps_crs_wkt or place.crs_wkt
    dataset.gcps = points, CRS.from_wkt(crs) if crs else CRS()


def _copy_as_cog(job: ExportJob, plain: Path, path: Path) -> None:
    import rasterio.shutil

    options: dict[str, Any] = {
        "COMPRESS": job.options.compress.upper(),
        "BLOCKSIZE": BLOCK,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": job.options.workers,
        # Tags of all namespaces, not of the known ones only.
        "COPY_SRC_MDD": "YES",
        "OVERVIEWS": "AUTO" if job.options.overviews else "NONE",
        "INTERLEAVE": _interleave(job).upper(),
    }
    if job.bits is not None:
        options["NBITS"] = job.bits
    if job.options.compress == "jpeg":
        options["QUALITY"] = job.options.quality or Format.USUAL_QUALITY
    elif job.options.compress != "none":
        options["PREDICTOR"] = "YES" if job.bits is None else "NO"
        if job.options.compress != "lzw":
            options["LEVEL"] = job.options.level or 1
    rasterio.shutil.copy(plain, path, driver="COG", **options)


def overview_sizes(job: ExportJob) -> list[tuple[int, int]]:
    """Return (height, width) of the overviews that `job` requests, the finest first."""
    if not job.options.overviews:
        return []
    return level_sizes(job.height, job.width)[1:]


class OverviewFiles:
    """One TIFF per overview, filled while level 0 is written, joined to it at the end."""

    # Each pixel is the mean of the valid ones below it, as everywhere in this package.
    def __init__(self, job: ExportJob, path: Path, creation: dict[str, Any]) -> None:
        self._job = job
        sizes = overview_sizes(job)
        self.paths = [
            path.with_name(f"{path.stem}.level{number}.tif") for number in range(1, len(sizes) + 1)
        ]
        self._creation = {k: v for k, v in creation.items() if k not in ("crs", "transform")}
        levels = [Level(h, w, BLOCK, BLOCK) for h, w in [(job.height, job.width), *sizes]]
        self._levels = levels
        self._pyramid = RowPyramid(levels, self._write, nodata=job.nodata)
        self._datasets: list[Any] = []
        self._stack = ExitStack()

    @classmethod
    def suit(cls, job: ExportJob) -> bool:
        """Return whether a row of tiles over the full width fits in memory."""
        row = BLOCK * job.width * job.bands * job.dtype.itemsize
        return bool(overview_sizes(job)) and row <= BLOCK_BYTES

    def __enter__(self) -> OverviewFiles:
        for path, level in zip(self.paths, self._levels[1:], strict=True):
            size = {"height": level.height, "width": level.width}
            dataset = open_for_writing(path, **{**self._creation, **size})
            self._datasets.append(self._stack.enter_context(dataset))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def add(self, block: PixelBlock) -> None:
        """Add a row of blocks over the full width."""
        valid = block.valid
        if valid is None and block.pixels.dtype.kind == "f":
            valid = np.isfinite(block.pixels).all(axis=2)
        self._pyramid.add(block.y, block.pixels, valid)

    def join(self, path: Path) -> None:
        """Append the finished levels to the finished TIFF `path`. Raises `DamagedOutput`."""
        try:
            append_overviews(path, self.paths)
        except (struct.error, ValueError) as error:
            # GDAL's threads may fail to write without an error.
            raise DamagedOutput("a directory is missing") from error

    def remove(self) -> None:
        """Delete the files of single levels."""
        for path in self.paths:
            for left in (path, path.with_name(path.name + ".aux.xml")):
                left.unlink(missing_ok=True)

    def _write(
        self,
        level: int,
        top: int,
        pixels: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
    ) -> None:
        if level == 0:
            return
        dataset = self._datasets[level - 1]
        window = ((top, top + pixels.shape[0]), (0, pixels.shape[1]))
        dataset.write(pixels.transpose(2, 0, 1), window=window)
        if self._job.writes_mask:
            flags = np.ones(pixels.shape[:2], bool) if valid is None else valid
            dataset.write_mask(flags, window=window)


def add_overviews(job: ExportJob, path: Path, interleave: str) -> None:
    """Add overviews made by GDAL to the finished TIFF `path`."""
    from rasterio.enums import Resampling

    # GDAL's mean leaves out nodata, masked and transparent pixels, but not NaN beside
    # another nodata value: one such pixel would empty its whole neighbourhood.
    nan_spreads = not job.finite and not (job.nodata is not None and np.isnan(job.nodata))
    how = Resampling.nearest if nan_spreads else Resampling.average
    level = str(job.options.level or 1)
    options = {
        "GDAL_NUM_THREADS": str(job.options.workers),
        "GDAL_TIFF_INTERNAL_MASK": True,
        "GDAL_TIFF_OVR_BLOCKSIZE": str(BLOCK),
        "INTERLEAVE_OVERVIEW": interleave.upper(),
        "ZLEVEL_OVERVIEW": level,
        "ZSTD_LEVEL_OVERVIEW": level,
    }
    with environment(**options), open_for_writing(path, "r+") as dataset:
        steps = range(1, len(overview_sizes(job)) + 1)
        dataset.build_overviews([2**step for step in steps], how)
