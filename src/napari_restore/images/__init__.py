"""Lazy sources in, files out: readers, pyramids, georeference, radiometry, validity, export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.images._cache import (
        CacheEntry,
        cache_dir,
        cache_entries,
        clear_cache,
        holders_of,
        mark_entry,
        process_stamp,
        remove_entry,
        trim_cache,
    )
    from napari_restore.images._chunks import ChunkCache, chunk_cache
    from napari_restore.images._describe import describe
    from napari_restore.images._exif import upright_exif
    from napari_restore.images._export import check_output, write_image
    from napari_restore.images._export_adopt import adopt_zarr, can_adopt
    from napari_restore.images._export_job import ExportOptions
    from napari_restore.images._georeference import ControlPoint, Georeference
    from napari_restore.images._image import Image
    from napari_restore.images._level_store import is_disk_full
    from napari_restore.images._mask_files import keep_line, keep_polygons, keep_strengths
    from napari_restore.images._open import open_image
    from napari_restore.images._profile import Profile
    from napari_restore.images._radiometry import (
        Radiometry,
        needs_percentile,
        resolve_radiometry,
    )
    from napari_restore.images._reduce import halve, level_sizes
    from napari_restore.images._roles import ROLES, parse_bands
    from napari_restore.images._sensors import SENSORS, Sensor, sensor_of
    from napari_restore.images._source import Box, Level, Source
    from napari_restore.images._vector import rasterise, read_gradient, read_polygons

_HOMES = {
    "_cache": (
        "CacheEntry",
        "adopt_zarr",
        "cache_dir",
        "cache_entries",
        "clear_cache",
        "holders_of",
        "mark_entry",
        "process_stamp",
        "remove_entry",
        "trim_cache",
    ),
    "_chunks": ("ChunkCache", "chunk_cache"),
    "_describe": ("describe",),
    "_exif": ("upright_exif",),
    "_export": ("check_output", "write_image"),
    "_export_job": ("ExportOptions",),
    "_export_adopt": ("adopt_zarr", "can_adopt"),
    "_georeference": ("ControlPoint", "Georeference"),
    "_image": ("Image",),
    "_level_store": ("is_disk_full",),
    "_mask_files": ("keep_line", "keep_polygons", "keep_strengths"),
    "_open": ("open_image",),
    "_profile": ("Profile",),
    "_radiometry": ("Radiometry", "needs_percentile", "resolve_radiometry"),
    "_reduce": ("halve", "level_sizes"),
    "_roles": ("ROLES", "parse_bands"),
    "_sensors": ("SENSORS", "Sensor", "sensor_of"),
    "_source": ("Box", "Level", "Source"),
    "_vector": ("rasterise", "read_gradient", "read_polygons"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ROLES",
    "SENSORS",
    "Box",
    "CacheEntry",
    "ChunkCache",
    "ControlPoint",
    "ExportOptions",
    "Georeference",
    "Image",
    "Level",
    "Profile",
    "Radiometry",
    "Sensor",
    "Source",
    "adopt_zarr",
    "cache_dir",
    "cache_entries",
    "can_adopt",
    "check_output",
    "chunk_cache",
    "clear_cache",
    "describe",
    "halve",
    "holders_of",
    "is_disk_full",
    "keep_line",
    "keep_polygons",
    "keep_strengths",
    "level_sizes",
    "mark_entry",
    "needs_percentile",
    "open_image",
    "parse_bands",
    "process_stamp",
    "rasterise",
    "read_gradient",
    "read_polygons",
    "remove_entry",
    "resolve_radiometry",
    "sensor_of",
    "trim_cache",
    "upright_exif",
    "write_image",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `napari-restore --help` stays fast.
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
