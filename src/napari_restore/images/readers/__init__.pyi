from ._array import ArrayReader, reader_of_array
from ._exposed import ConvertedReader, ExposedReader, LightReader
from ._mosaic import MosaicReader
from ._ome_zarr import OWN_ATTRIBUTES
from ._product import FittedReader, ProductReader, check_count, common_dtype, nests_in
from ._raw import RawReader
from ._registered import RegisteredReader, scaled_matrix
from ._registry import reader_of
from ._resampled import ResampledReader
from ._selected import SelectedReader
from ._stack import StackReader
from ._zipped import ZippedReader

__all__ = [
    "OWN_ATTRIBUTES",
    "ArrayReader",
    "ConvertedReader",
    "ExposedReader",
    "FittedReader",
    "LightReader",
    "MosaicReader",
    "ProductReader",
    "RawReader",
    "RegisteredReader",
    "ResampledReader",
    "SelectedReader",
    "StackReader",
    "ZippedReader",
    "check_count",
    "common_dtype",
    "nests_in",
    "reader_of",
    "reader_of_array",
    "scaled_matrix",
]
