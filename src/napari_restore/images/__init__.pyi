from ._band_math import COMBINATIONS, INDICES, BandMath, BandValues, combinations, indices
from ._black_white import needs_percentile, note_of_zero, resolve_radiometry
from ._describe import describe
from ._display_curve import curve_of, light_of_srgb, srgb_of_light
from ._georeference import ControlPoint, Georeference, turns_onto
from ._html import facts_of, html_of, thumbnail
from ._image import Image, open_image
from ._profile import Profile
from ._source import Box, Level, Source, chunk_grid
from ._suffixes import (
    IMAGE_SUFFIXES,
    READ_SUFFIXES,
    VECTOR_SUFFIXES,
    ZARR_MARKERS,
    is_image_in_folder,
    is_zarr,
)
from ._xarray import data_array
from .brackets._bracket import bracket_of, common_box
from .brackets._groups import Bracket, brackets_among
from .cache._chunks import ChunkCache, chunk_cache
from .cache._folder import (
    CacheEntry,
    cache_dir,
    cache_entries,
    clear_cache,
    is_whole,
    mark_entry,
    remove_entry,
    trim_cache,
)
from .cache._lock import check_private, is_locked, is_used, lock_file, mark_use, owner_in, users_of
from .export._adopt import adopt_zarr, can_adopt
from .export._job import ExportOptions, Pixels, SaveOptions
from .export._upload import check_upload, file_before_upload, upload
from .export._write import check_output, write_image
from .files._exif import upright_exif
from .files._remote import names_address
from .levels._making import attach_pyramid
from .levels._reduce import halve, level_sizes
from .masks._files import keep_gradient, keep_polygons, keep_strengths, persistent_mask
from .masks._vector import is_inline, rasterise, read_gradient, read_polygons
from .readers._array import ArrayReader
from .values._radiometry import Radiometry
from .values._roles import ROLES, auxiliary_role, parse_bands
from .values._sensors import SENSORS, Sensor, sensor_of
from .values._validity import default_fill

__all__ = [
    "COMBINATIONS",
    "IMAGE_SUFFIXES",
    "INDICES",
    "READ_SUFFIXES",
    "ROLES",
    "SENSORS",
    "VECTOR_SUFFIXES",
    "ZARR_MARKERS",
    "ArrayReader",
    "BandMath",
    "BandValues",
    "Box",
    "Bracket",
    "CacheEntry",
    "ChunkCache",
    "ControlPoint",
    "ExportOptions",
    "Georeference",
    "Image",
    "Level",
    "Pixels",
    "Profile",
    "Radiometry",
    "SaveOptions",
    "Sensor",
    "Source",
    "adopt_zarr",
    "attach_pyramid",
    "auxiliary_role",
    "bracket_of",
    "brackets_among",
    "cache_dir",
    "cache_entries",
    "can_adopt",
    "check_output",
    "check_private",
    "check_upload",
    "chunk_cache",
    "chunk_grid",
    "clear_cache",
    "combinations",
    "common_box",
    "curve_of",
    "data_array",
    "default_fill",
    "describe",
    "facts_of",
    "file_before_upload",
    "halve",
    "html_of",
    "indices",
    "is_image_in_folder",
    "is_inline",
    "is_locked",
    "is_used",
    "is_whole",
    "is_zarr",
    "keep_gradient",
    "keep_polygons",
    "keep_strengths",
    "level_sizes",
    "light_of_srgb",
    "lock_file",
    "mark_entry",
    "mark_use",
    "names_address",
    "needs_percentile",
    "note_of_zero",
    "open_image",
    "owner_in",
    "parse_bands",
    "persistent_mask",
    "rasterise",
    "read_gradient",
    "read_polygons",
    "remove_entry",
    "resolve_radiometry",
    "sensor_of",
    "srgb_of_light",
    "thumbnail",
    "trim_cache",
    "turns_onto",
    "upload",
    "upright_exif",
    "users_of",
    "write_image",
]
