from ._folder import LEASE, WRITER, Lease, StoreBusy, holder_of, in_use, writer_of
from ._kept_layers import LAYERS, KeptLayers
from ._map_records import FILE, ResidualStore, Shape, Transfer, earlier_slots, pinned
from ._shared_slabs import KeptSlabs, OpenSlab, PartSlabs, enter_left
from ._slab import SlabFile, Slots, discard_slab, journal_of, key_of, written
from ._store import Part, PartWriter, ResultStore, SetAside, discard_store, free_path
from ._store_files import CHUNK, FORMAT, SHARED, STAGED, result_levels
from ._values import UNREADABLE, Values, bytes_of, read_arrays, rows_into, rows_of, write_arrays

__all__ = [
    "CHUNK",
    "FILE",
    "FORMAT",
    "LAYERS",
    "LEASE",
    "SHARED",
    "STAGED",
    "UNREADABLE",
    "WRITER",
    "KeptLayers",
    "KeptSlabs",
    "Lease",
    "OpenSlab",
    "Part",
    "PartSlabs",
    "PartWriter",
    "ResidualStore",
    "ResultStore",
    "SetAside",
    "Shape",
    "SlabFile",
    "Slots",
    "StoreBusy",
    "Transfer",
    "Values",
    "bytes_of",
    "discard_slab",
    "discard_store",
    "earlier_slots",
    "enter_left",
    "free_path",
    "holder_of",
    "in_use",
    "journal_of",
    "key_of",
    "pinned",
    "read_arrays",
    "result_levels",
    "rows_into",
    "rows_of",
    "write_arrays",
    "writer_of",
    "written",
]
