from ._band_math import COMBINATIONS, INDICES, BandMath, BandValues, combinations, indices
from ._black_white import needs_percentile, note_of_zero, resolve_radiometry
from ._describe import describe, naming_hint
from ._display_curve import curve_of, light_of_srgb, srgb_of_light
from ._georeference import ControlPoint, Georeference, turns_onto
from ._html import facts_of, html_of, picture_of, thumbnail
from ._image import Image, bands_of_scene, hint_of_bands, open_codes, open_image
from ._planes import Planes, planes_asked
from ._profile import Profile
from ._source import Box, Level, Source, chunk_grid
from ._suffixes import (
    IMAGE_SUFFIXES,
    PRODUCT_PATTERNS,
    READ_SUFFIXES,
    VECTOR_SUFFIXES,
    ZARR_MARKERS,
    is_image_in_folder,
    is_zarr,
)
from ._xarray import data_array, lazy_array, read_again
from .brackets._groups import Bracket, brackets_among, without_twins
from .brackets.bracket import bracket_of, common_box
from .cache.chunks import ChunkCache, chunk_cache
from .cache.folder import (
    CacheEntry,
    cache_dir,
    cache_entries,
    cache_environment,
    clear_cache,
    is_whole,
    mark_entry,
    remove_entry,
    remove_folder,
    remove_path,
    trim_cache,
    use_cache_folder,
)
from .cache.lock import (
    check_private,
    guarded,
    is_locked,
    is_used,
    lock_file,
    make_private,
    mark_use,
    owner_in,
    users_of,
)
from .export._adopt import adopt_zarr, can_adopt
from .export._job import ExportOptions, Pixels, SaveOptions
from .export._planes import check_stack, join_planes
from .export._rendition import is_flattened
from .export.exif import too_long_for_jpeg
from .export.write import check_options, check_output, output_like, unfit_options, write_image
from .files.exif import upright_exif
from .files.remote import names_address
from .levels.making import attach_pyramid
from .levels.reduce import halve, level_sizes
from .masks._files import (
    absolute_mask,
    mask_of_array,
    mask_of_line,
    mask_of_polygons,
    parts_of,
    persistent_mask,
    title_of_mask,
)
from .masks._ogr import layers_of
from .masks._vector import is_inline, is_vector, rasterise, read_gradient, read_polygons
from .products.find import images_in_folder, is_product
from .readers.array import ArrayReader
from .values.depth import in_8_bits, in_16_bits
from .values.flags import Flags, Match, band_named, flags_of, matches_of, needed_bands
from .values.presets import AUXILIARY, LIGHT, ROLES, Sensor
from .values.radiometry import Radiometry
from .values.roles import UNKNOWN, GivenBand, auxiliary_role, bands_text, parse_bands
from .values.sensor_file import known_sensors, sensor_text
from .values.sensors import sensor_of

__all__ = [
    "AUXILIARY",
    "COMBINATIONS",
    "IMAGE_SUFFIXES",
    "INDICES",
    "LIGHT",
    "PRODUCT_PATTERNS",
    "READ_SUFFIXES",
    "ROLES",
    "UNKNOWN",
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
    "Flags",
    "Georeference",
    "GivenBand",
    "Image",
    "Level",
    "Match",
    "Pixels",
    "Planes",
    "Profile",
    "Radiometry",
    "SaveOptions",
    "Sensor",
    "Source",
    "absolute_mask",
    "adopt_zarr",
    "attach_pyramid",
    "auxiliary_role",
    "band_named",
    "bands_of_scene",
    "bands_text",
    "bracket_of",
    "brackets_among",
    "cache_dir",
    "cache_entries",
    "cache_environment",
    "can_adopt",
    "check_options",
    "check_output",
    "check_private",
    "check_stack",
    "chunk_cache",
    "chunk_grid",
    "clear_cache",
    "combinations",
    "common_box",
    "curve_of",
    "data_array",
    "describe",
    "facts_of",
    "flags_of",
    "guarded",
    "halve",
    "hint_of_bands",
    "html_of",
    "images_in_folder",
    "in_8_bits",
    "in_16_bits",
    "indices",
    "is_flattened",
    "is_image_in_folder",
    "is_inline",
    "is_locked",
    "is_product",
    "is_used",
    "is_vector",
    "is_whole",
    "is_zarr",
    "join_planes",
    "known_sensors",
    "layers_of",
    "lazy_array",
    "level_sizes",
    "light_of_srgb",
    "lock_file",
    "make_private",
    "mark_entry",
    "mark_use",
    "mask_of_array",
    "mask_of_line",
    "mask_of_polygons",
    "matches_of",
    "names_address",
    "naming_hint",
    "needed_bands",
    "needs_percentile",
    "note_of_zero",
    "open_codes",
    "open_image",
    "output_like",
    "owner_in",
    "parse_bands",
    "parts_of",
    "persistent_mask",
    "picture_of",
    "planes_asked",
    "rasterise",
    "read_again",
    "read_gradient",
    "read_polygons",
    "remove_entry",
    "remove_folder",
    "remove_path",
    "resolve_radiometry",
    "sensor_of",
    "sensor_text",
    "srgb_of_light",
    "thumbnail",
    "title_of_mask",
    "too_long_for_jpeg",
    "trim_cache",
    "turns_onto",
    "unfit_options",
    "upright_exif",
    "use_cache_folder",
    "users_of",
    "without_twins",
    "write_image",
]
