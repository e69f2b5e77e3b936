from ._counts import CountStore
from ._events import Emit, Event, Finished, Note, Phase, Progress, Stopped, event_from_dict
from ._executor import Executor, Make, Put, Stage
from ._map_store import MapLocation, MapStore
from ._prepared import Prepared, prepare, read_prepared, write_prepared
from ._rounding import Rounding
from ._run import PREPARING, Run, settled
from ._state import RunState
from ._sweep_work import SweepWork, Swept, SweptInput, cell_slices, grid_of, reflection
from ._threads import quarters
from ._tile import TileOutput, TileWork
from ._tile_reader import Mask, TileReader
from ._tokens import TokenStore

__all__ = [
    "PREPARING",
    "CountStore",
    "Emit",
    "Event",
    "Executor",
    "Finished",
    "Make",
    "MapLocation",
    "MapStore",
    "Mask",
    "Note",
    "Phase",
    "Prepared",
    "Progress",
    "Put",
    "Rounding",
    "Run",
    "RunState",
    "Stage",
    "Stopped",
    "SweepWork",
    "Swept",
    "SweptInput",
    "TileOutput",
    "TileReader",
    "TileWork",
    "TokenStore",
    "cell_slices",
    "event_from_dict",
    "grid_of",
    "prepare",
    "quarters",
    "read_prepared",
    "reflection",
    "settled",
    "write_prepared",
]
