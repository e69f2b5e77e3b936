from ._costs import SCRATCH_BYTES, calibrate_sweeps, prepare_cost
from ._decided import StoredMaps, SweptLayout, TileInvariance
from ._dependence import dependence
from ._identity import (
    SETTLED,
    UNFINISHED,
    all_settled,
    find_settled,
    keep_settled,
    lend,
    prepared_key,
)
from ._layout import READ_AHEAD, WRITE_BEHIND, fragmentation, tile_step
from ._map_layout import network_bytes
from ._measurements import MeasurementCache
from ._plan import Plan
from ._probe import example_input, example_statistics
from ._source import reads_overview
from ._sweeps import DISK_SHARE, TOKENS, existing_folder
from ._tile_invariance import ROUNDING, tile_invariance
from ._tiles import (
    BAND,
    COUNT_BYTES,
    Grid,
    Surroundings,
    TileQueue,
    TileSizes,
    box_with_halo,
    bytes_of,
    cut_into_tiles,
    tile_bytes,
    tile_sizes,
    tiles_read,
    values_of,
)

__all__ = [
    "BAND",
    "COUNT_BYTES",
    "DISK_SHARE",
    "READ_AHEAD",
    "ROUNDING",
    "SCRATCH_BYTES",
    "SETTLED",
    "TOKENS",
    "UNFINISHED",
    "WRITE_BEHIND",
    "Grid",
    "MeasurementCache",
    "Plan",
    "StoredMaps",
    "Surroundings",
    "SweptLayout",
    "TileInvariance",
    "TileQueue",
    "TileSizes",
    "all_settled",
    "box_with_halo",
    "bytes_of",
    "calibrate_sweeps",
    "cut_into_tiles",
    "dependence",
    "example_input",
    "example_statistics",
    "existing_folder",
    "find_settled",
    "fragmentation",
    "keep_settled",
    "lend",
    "network_bytes",
    "prepare_cost",
    "prepared_key",
    "reads_overview",
    "tile_bytes",
    "tile_invariance",
    "tile_sizes",
    "tile_step",
    "tiles_read",
    "values_of",
]
