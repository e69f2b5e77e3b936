"""Conversion of a zarr of finished pixels to OME-Zarr without copying them."""

from __future__ import annotations

from pathlib import Path

from napari_restore._replacing import remove_abandoned
from napari_restore.errors import BadOutput, option
from napari_restore.images._image import Image
from napari_restore.images._source import Level
from napari_restore.images.export import _zarr
from napari_restore.images.export._job import ExportJob, ExportOptions, Pixels
from napari_restore.images.export.write import check_output, take_name


def can_adopt(like: Image, target: Path) -> bool:
    """Return whether a store of all of `like` may become `target` unchanged."""
    # OME-Zarr has no mask; an export adds it as alpha, which a store lacks.
    return target.suffix.lower() == ".zarr" and like.profile.masks not in ("mask", "bands")


def adopt_zarr(
    store: Path,
    target: Path,
    *,
    like: Image,
    tags: dict[str, str],
    overwrite: bool = False,
) -> Path:
    """Write the metadata of the group at `store` and rename it to `target`.

    The group has arrays (c, y, x) ``0``, ``1`` … and must contain all of `like`'s pixels, and nothing
    else. No file in it may be open. Raises `BadOutput` when a chunk is missing or `target` exists.
    """
    import zarr

    check_output(target, list(like.reader.files()), overwrite)
    group = zarr.open_group(str(store), mode="r+", zarr_format=3)
    levels = []
    number = 0
    while str(number) in group:
        array = group[str(number)]
        assert isinstance(array, zarr.Array)
        levels.append(Level(*array.shape[1:], *array.chunks[1:]))
        if not all(chunk.is_file() for chunk in _zarr.chunks_in(store / str(number), levels[-1])):
            raise BadOutput(
                f"A piece of level {number} is missing in {store}.",
                f"Run it again with {option('fresh', True)}.",
            )
        number += 1
    pixels, options = Pixels((0, 0, *like.shape[:2]), like.read), ExportOptions(overwrite=overwrite)
    job = ExportJob(like, pixels, like.dtype, options, tags, target)
    group.attrs.update(_zarr.attributes(job, tuple(levels)))
    remove_abandoned(store)
    take_name(store, target)
    return target
