"""Lazy sources in, files out: readers, pyramids, georeference, radiometry, validity, export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.images._black_white import needs_percentile, resolve_radiometry
    from napari_restore.images._describe import describe
    from napari_restore.images._georeference import ControlPoint, Georeference
    from napari_restore.images._image import Image, open_image
    from napari_restore.images._profile import Profile
    from napari_restore.images._source import Box, Level, Source
    from napari_restore.images.cache._chunks import ChunkCache, chunk_cache
    from napari_restore.images.cache._disk_space import is_disk_full
    from napari_restore.images.cache._folder import (
        CacheEntry,
        cache_dir,
        cache_entries,
        clear_cache,
        mark_entry,
        remove_entry,
        trim_cache,
    )
    from napari_restore.images.cache._lock import is_locked, lock_file, owner_in
    from napari_restore.images.cache._private import check_private
    from napari_restore.images.cache._use import is_used, mark_use, users_of
    from napari_restore.images.export._adopt import adopt_zarr, can_adopt
    from napari_restore.images.export._job import ExportOptions
    from napari_restore.images.export._write import check_output, write_image
    from napari_restore.images.files._exif import upright_exif
    from napari_restore.images.levels._making import attach_pyramid
    from napari_restore.images.levels._reduce import halve, level_sizes
    from napari_restore.images.masks._files import (
        keep_line,
        keep_polygons,
        keep_strengths,
        lasting_mask,
    )
    from napari_restore.images.masks._inline import is_inline
    from napari_restore.images.masks._vector import rasterise, read_gradient, read_polygons
    from napari_restore.images.values._radiometry import Radiometry
    from napari_restore.images.values._roles import ROLES, parse_bands
    from napari_restore.images.values._sensors import SENSORS, Sensor, sensor_of
    from napari_restore.images.values._validity import default_fill

_HOMES = {
    "_black_white": ("needs_percentile", "resolve_radiometry"),
    "_describe": ("describe",),
    "_georeference": ("ControlPoint", "Georeference"),
    "_image": ("Image", "open_image"),
    "_profile": ("Profile",),
    "_source": ("Box", "Level", "Source"),
    "cache._chunks": ("ChunkCache", "chunk_cache"),
    "cache._disk_space": ("is_disk_full",),
    "cache._folder": (
        "CacheEntry",
        "cache_dir",
        "cache_entries",
        "clear_cache",
        "mark_entry",
        "remove_entry",
        "trim_cache",
    ),
    "cache._lock": ("is_locked", "lock_file", "owner_in"),
    "cache._private": ("check_private",),
    "cache._use": ("is_used", "mark_use", "users_of"),
    "export._adopt": ("adopt_zarr", "can_adopt"),
    "export._job": ("ExportOptions",),
    "export._write": ("check_output", "write_image"),
    "files._exif": ("upright_exif",),
    "levels._making": ("attach_pyramid",),
    "levels._reduce": ("halve", "level_sizes"),
    "masks._files": ("keep_line", "keep_polygons", "keep_strengths", "lasting_mask"),
    "masks._inline": ("is_inline",),
    "masks._vector": ("rasterise", "read_gradient", "read_polygons"),
    "values._radiometry": ("Radiometry",),
    "values._roles": ("ROLES", "parse_bands"),
    "values._sensors": ("SENSORS", "Sensor", "sensor_of"),
    "values._validity": ("default_fill",),
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
    "attach_pyramid",
    "cache_dir",
    "cache_entries",
    "can_adopt",
    "check_output",
    "check_private",
    "chunk_cache",
    "clear_cache",
    "default_fill",
    "describe",
    "halve",
    "is_disk_full",
    "is_inline",
    "is_locked",
    "is_used",
    "keep_line",
    "keep_polygons",
    "keep_strengths",
    "lasting_mask",
    "level_sizes",
    "lock_file",
    "mark_entry",
    "mark_use",
    "needs_percentile",
    "open_image",
    "owner_in",
    "parse_bands",
    "rasterise",
    "read_gradient",
    "read_polygons",
    "remove_entry",
    "resolve_radiometry",
    "sensor_of",
    "trim_cache",
    "upright_exif",
    "users_of",
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
