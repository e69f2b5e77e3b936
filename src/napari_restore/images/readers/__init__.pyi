from ._array import ArrayReader, reader_of_array
from ._exposed import ConvertedReader, ExposedReader, LightReader
from ._mosaic import MosaicReader
from ._ome_zarr import OWN_ATTRIBUTES
from ._raw import RawReader
from ._registered import RegisteredReader
from ._registry import reader_of
from ._selected import SelectedReader
from ._stack import StackReader

__all__ = [
    "OWN_ATTRIBUTES",
    "ArrayReader",
    "ConvertedReader",
    "ExposedReader",
    "LightReader",
    "MosaicReader",
    "RawReader",
    "RegisteredReader",
    "SelectedReader",
    "StackReader",
    "reader_of",
    "reader_of_array",
]
