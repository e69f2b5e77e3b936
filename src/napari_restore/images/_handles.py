"""Open GDAL datasets, lent to one thread at a time."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IDLE_LIMIT = 48
"""Datasets kept open in the whole process while nobody reads them."""

DRIVERS = (
    "GTiff", "JPEG", "PNG", "WEBP", "JP2OpenJPEG", "VRT", "ENVI", "HFA", "EHdr", "BMP", "GIF",
    "BIGGIF", "PNM", "SGI", "TGA", "NITF", "PCIDSK", "ERS", "RMF", "ILWIS", "SAGA", "RST",
    "ISIS3", "ISIS2", "PDS", "PDS4", "VICAR", "ISCE", "DIMAP", "SENTINEL2", "SAFE", "DTED",
    "USGSDEM", "AAIGrid", "GRASSASCIIGrid", "XYZ", "MRF", "MBTiles", "GPKG", "netCDF", "GRIB",
    "BAG", "NDF", "PAux", "EIR", "ROI_PAC", "RPFTOC", "GSAG", "GSBG", "GS7BG", "RRASTER",
    "Rasterlite", "TIL", "TSX", "RS2", "SAR_CEOS", "CEOS", "L1B", "FAST", "LAN", "KRO", "MFF",
    "HDF5", "HDF5Image", "GTI",
)  # fmt: skip
"""Raster formats of files; none that reaches for the network."""

OPTIONS = {
    # Sidecars are read; nothing here dirties a dataset, so none is written.
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_NUM_THREADS": "1",
    # Decoded chunks lie in our own cache; GDAL's needs to hold a few blocks only.
    "GDAL_CACHEMAX": 64,
    "GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC": "YES",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": "16777216",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}

Key = tuple[str, int | None]
"""Path and overview level (None: full resolution)."""


def environment(**options: Any) -> Any:
    """Rasterio's environment in which every call of this package runs; keeps GDAL quiet."""
    import rasterio

    return rasterio.Env(**{**OPTIONS, **options})


# warnings.catch_warnings is not thread safe.
_opening = threading.Lock()


@contextlib.contextmanager
def _unplaced_is_fine() -> Iterator[None]:
    """Rasterio does not warn of an image without a place on the map, as every photo is."""
    from rasterio.errors import NotGeoreferencedWarning

    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_dataset(key: Key) -> Any:
    """A new rasterio dataset, closed by the caller."""
    from rasterio.io import DatasetReader

    path, overview = key
    extra = {} if overview is None else {"overview_level": overview}
    with _unplaced_is_fine():
        # Not rasterio.open, which takes one driver or all, the network's among them.
        # GDAL's own sharing would hand one dataset to two threads.
        return DatasetReader(path, driver=list(DRIVERS), sharing=False, **extra)


def open_for_writing(path: Path, mode: str = "w", **creation: Any) -> Any:
    """A rasterio dataset, new ("w") or to be changed ("r+"), closed by the caller."""
    import rasterio

    with _unplaced_is_fine():
        return rasterio.open(path, mode, **creation)


class _Handles:
    """Idle datasets by key, the longest idle closed first."""

    def __init__(self) -> None:
        self._idle: OrderedDict[int, tuple[Key, Any]] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, key: Key) -> Iterator[Any]:
        """A dataset nobody else uses meanwhile; it stays open for the next reader."""
        with environment():
            dataset = self._take(key) or open_dataset(key)
            try:
                yield dataset
            except BaseException:
                dataset.close()
                raise
            self._put_back(key, dataset)

    def close(self, path: Path) -> None:
        """Close the idle datasets of `path`, so that the file may be replaced."""
        with self._lock:
            gone = [i for i, (key, _) in self._idle.items() if key[0] == str(path)]
            datasets = [self._idle.pop(i)[1] for i in gone]
        _close(datasets)

    def _take(self, key: Key) -> Any | None:
        with self._lock:
            for number in reversed(self._idle):
                if self._idle[number][0] == key:
                    return self._idle.pop(number)[1]
        return None

    def _put_back(self, key: Key, dataset: Any) -> None:
        surplus = []
        with self._lock:
            self._idle[id(dataset)] = (key, dataset)
            while len(self._idle) > IDLE_LIMIT:
                surplus.append(self._idle.popitem(last=False)[1][1])
        _close(surplus)


def _close(datasets: list[Any]) -> None:
    for dataset in datasets:
        dataset.close()


handles = _Handles()
"""The open datasets of this process."""
