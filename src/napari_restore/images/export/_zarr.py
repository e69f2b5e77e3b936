"""OME-Zarr 0.5: all levels, and metadata that OME does not define in attributes of our own."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_restore.images._profile import NO_GRID, Tags
from napari_restore.images._source import Level, chunk_grid
from napari_restore.images.export._geotiff import current_tags
from napari_restore.images.export._job import DamagedOutput, ExportJob, same_pixels
from napari_restore.images.levels.row_pyramid import RowPyramid, row_levels
from napari_restore.images.readers.ome_zarr import OWN_ATTRIBUTES

_METRES = {"metre": "meter", "foot": "foot"}


def write(job: ExportJob, path: Path) -> None:
    """Write `job` as a group of arrays (c, y, x), in the memory of a few bands of rows."""
    import zarr

    levels = _levels(job)
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes(job, levels))
    arrays = [_create(job, group, number, level) for number, level in enumerate(levels)]

    def sink(number: int, top: int, pixels: Any, valid: Any) -> None:
        arrays[number][:, top : top + len(pixels)] = np.moveaxis(pixels, 2, 0)

    pyramid = RowPyramid(levels, sink, nodata=job.nodata)
    with_valid = job.may_be_invalid
    for block in job.blocks(levels[0].chunk_height, with_valid=with_valid, whole_rows=True):
        pixels = block.pixels
        if job.writes_mask and block.valid is not None:
            # OME-Zarr has no mask; an alpha channel is what its readers support.
            most = 1 if job.dtype.kind == "f" else np.iinfo(job.dtype).max
            opaque = block.valid[..., None] * job.dtype.type(most)
            pixels = np.concatenate([pixels, opaque.astype(job.dtype)], axis=2)
        valid = block.valid
        if not with_valid and pixels.dtype.kind == "f":
            valid = np.isfinite(pixels).all(axis=2)
        pyramid.add(block.y, pixels, valid)


def check(job: ExportJob, path: Path) -> None:
    """Open `path` again and compare. Raises `DamagedOutput`."""
    import zarr

    group = zarr.open_group(str(path), mode="r", zarr_format=3)
    levels = _levels(job)
    for number, level in enumerate(levels):
        array = group[str(number)]
        assert isinstance(array, zarr.Array)
        if array.shape != (_bands(job), level.height, level.width) or array.dtype != job.dtype:
            raise DamagedOutput(f"level {number} has another size")
        if not all(chunk.is_file() for chunk in chunks_in(path / str(number), level)):
            raise DamagedOutput(f"a chunk of level {number} is missing")
    whole: Any = group["0"]
    for sample in job.samples:
        height, width = sample.pixels.shape[:2]
        read_back = whole[: job.bands, sample.y : sample.y + height, sample.x : sample.x + width]
        if not same_pixels(np.moveaxis(read_back, 0, 2), sample.pixels, lossy=False):
            raise DamagedOutput(f"pixels at row {sample.y}, column {sample.x} differ")


def chunks_in(array: Path, level: Level) -> Iterator[Path]:
    """Yield the files of the chunks of an array (c, y, x) that are written."""
    return (array / "c" / "0" / str(row) / str(column) for row, column in chunk_grid(level))


def _bands(job: ExportJob) -> int:
    return job.bands + job.writes_mask


def _levels(job: ExportJob) -> tuple[Level, ...]:
    levels = row_levels(job.height, job.width, _bands(job) * job.dtype.itemsize)
    return levels if job.options.overviews else levels[:1]


def _create(job: ExportJob, group: Any, number: int, level: Level) -> Any:
    from zarr.codecs import BloscCodec

    shuffle: Literal["noshuffle", "shuffle"] = "noshuffle" if job.dtype.itemsize == 1 else "shuffle"
    codec = BloscCodec(cname="zstd", clevel=job.options.level or 1, shuffle=shuffle)
    return group.create_array(
        str(number),
        shape=(_bands(job), level.height, level.width),
        chunks=(_bands(job), level.chunk_height, level.chunk_width),
        dtype=job.dtype,
        compressors=None if job.options.compress == "none" else [codec],
        fill_value=0,
        dimension_names=("c", "y", "x"),
        # A chunk that is missing is a write that failed, see `check`.
        config={"write_empty_chunks": True},
    )


def attributes(job: ExportJob, levels: tuple[Level, ...]) -> dict[str, Any]:
    """Return the group's attributes: OME-Zarr's for `levels`, and our own metadata."""
    like = job.like
    place = like.georeference.shifted(job.box[1], job.box[0]) if like.georeference else None
    grid = job.grid or NO_GRID
    size = (place.pixel_size if place else None) or grid.size
    unit = _METRES.get(place.units) if place else grid.unit
    # A map's place stands in our own attributes.
    origin = (0.0, 0.0) if place else grid.origin
    space = {"type": "space"} | ({"unit": unit} if unit else {})
    datasets = []
    for number in range(len(levels)):
        # Level n's first pixel is the mean of 2**n, so its centre lies further in.
        scale = [2.0**number * s for s in size]
        shift = [o + (2.0**number - 1) / 2 * s for o, s in zip(origin, size, strict=True)]
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, *scale]},
                    {"type": "translation", "translation": [0.0, *shift]},
                ],
            }
        )
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    multiscale = {"name": like.name, "axes": axes, "datasets": datasets, "type": "mean"}
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    description = _own_attributes(job, place)
    if job.source_bands is not None:
        ome["omero"] = {"channels": _channels(job, _labels(job, description))}
    return {"ome": ome, OWN_ATTRIBUTES: description}


def _channels(job: ExportJob, labels: list[str]) -> list[dict[str, str]]:
    """Return names and, where the source has them, colours of the channels."""
    colours = job.profile.channel_colours
    known = len(colours) == len(labels) and all(job.like.profile.channel_colours)
    return [
        {"label": label} | ({"color": str(colours[number])} if known else {})
        for number, label in enumerate(labels)
    ]


def _labels(job: ExportJob, description: Mapping[str, Any]) -> list[str]:
    names = description["descriptions"] or [None] * _bands(job)
    roles = [*description["roles"], *["alpha"] * job.writes_mask]
    return [
        name or role or f"band {number}"
        for number, (name, role) in enumerate(zip(names, roles, strict=True), 1)
    ]


def _own_attributes(job: ExportJob, place: Any) -> dict[str, Any]:
    """Return georeference, meaning of values and tags, under the names of the zarr reader."""
    profile, nodata = job.profile, job.nodata
    description: dict[str, Any] = {
        # JSON has no NaN.
        "nodata": "NaN" if nodata is not None and math.isnan(nodata) else nodata,
        "tags": _current_tags(profile.tags),
    }
    description["tags"].setdefault("", {}).update(job.tags)
    if job.pixels.names:
        description["descriptions"] = list(job.pixels.names)
    if place is not None:
        description |= {
            "crs_wkt": place.crs_wkt,
            "transform": place.transform and list(place.transform),
            "area_or_point": place.area_or_point,
            "gcps": [asdict(point) for point in place.gcps],
            "gcps_crs_wkt": place.gcps_crs_wkt,
            "rpcs": place.rpcs and {k: str(v) for k, v in place.rpcs.items()},
        }
    if job.source_bands is None:
        return description
    described = job.like.described.of(job.source_bands)

    def all_of(values: tuple[Any, ...], of_mask: Any) -> list[Any]:
        return [*values, of_mask] if values and job.writes_mask else [*values]

    if profile.icc:
        description["icc"] = base64.b64encode(profile.icc).decode()
    return description | {
        "roles": list(described.roles),
        "wavelengths": all_of(described.wavelengths, None),
        "descriptions": all_of(profile.descriptions or (None,) * job.bands, None),
        "colorinterp": all_of(profile.colorinterp or ("undefined",) * job.bands, "alpha"),
        "scales": all_of(profile.scales, 1.0),
        "offsets": all_of(profile.offsets, 0.0),
        "units": all_of(profile.units, None),
        "band_tags": [_current_tags(part) for part in all_of(profile.band_tags, {})],
    }


def _current_tags(tags: Tags) -> dict[str, dict[str, str]]:
    """Return `tags` without those that would be stale, and without empty namespaces."""
    current = {space: current_tags(space, part) for space, part in tags.items()}
    return {space: part for space, part in current.items() if part}
