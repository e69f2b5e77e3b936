"""Open GDAL datasets, lent to one thread at a time."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

IDLE_LIMIT = 48
"""Datasets kept open in the whole process while nobody reads them."""
_WATCHED = 64
"""Files of one dataset that are looked at for changes; a VRT may have thousands."""

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


# warnings.catch_warnings is not thread safe, neither here nor within rasterio.
_filtering = threading.Lock()


@contextlib.contextmanager
def unplaced_is_fine() -> Iterator[None]:
    """Rasterio does not warn of what lies nowhere on a map, as photos and masks do."""
    from rasterio.errors import NotGeoreferencedWarning

    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@functools.cache
def _reader() -> Any:
    from rasterio.io import DatasetReader

    class Reader(DatasetReader):  # type: ignore[misc]
        """Rasterio's, which does not warn of an image without a place on the map."""

        def _has_gcps_or_rpcs(self) -> bool:
            # Asked before it warns. Many threads open files, and what those of dask and napari
            # do to the filters of warnings meanwhile would undo `unplaced_is_fine`.
            return True

    return Reader


def open_dataset(key: Key) -> Any:
    """A new rasterio dataset, closed by the caller."""
    path, overview = key
    extra = {} if overview is None else {"overview_level": overview}
    # Not rasterio.open, which takes one driver or all, the network's among them.
    # GDAL's own sharing would hand one dataset to two threads.
    return _reader()(path, driver=list(DRIVERS), sharing=False, **extra)


def open_for_writing(path: Path, mode: str = "w", **creation: Any) -> Any:
    """A rasterio dataset, new ("w") or to be changed ("r+"), closed by the caller."""
    import rasterio

    with unplaced_is_fine():
        return rasterio.open(path, mode, **creation)


Stamp = tuple[int, int, int] | None
"""Size, time of change and inode of a file; None for what is no file."""


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


class _Open(NamedTuple):
    """A dataset, and how its files looked before it was opened."""

    dataset: Any
    stamps: dict[str, Stamp]

    @property
    def is_current(self) -> bool:
        """False once a file was replaced: the dataset would still read the old one."""
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())


def _open(key: Key) -> _Open:
    stamps = {key[0]: _stamp(key[0])}
    dataset = open_dataset(key)
    # The parts of a VRT, and overviews and masks that lie beside the file.
    stamps |= {path: _stamp(path) for path in dataset.files[:_WATCHED] if path != key[0]}
    return _Open(dataset, stamps)


class _Handles:
    """Idle datasets by key, the longest idle closed first.

    A dataset whose file was replaced under the same name is never lent again.
    """

    def __init__(self) -> None:
        self._idle: OrderedDict[int, tuple[Key, _Open]] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, key: Key) -> Iterator[Any]:
        """A dataset nobody else uses meanwhile; it stays open for the next reader."""
        with environment():
            lent = self._take(key) or _open(key)
            try:
                yield lent.dataset
            except BaseException:
                lent.dataset.close()
                raise
            self._put_back(key, lent)

    def close(self, path: Path) -> None:
        """Close the idle datasets of `path`, so that the file may be replaced."""
        with self._lock:
            gone = [i for i, (key, _) in self._idle.items() if key[0] == str(path)]
            stale = [self._idle.pop(i)[1] for i in gone]
        _close(stale)

    def _take(self, key: Key) -> _Open | None:
        while True:
            with self._lock:
                number = next((i for i in reversed(self._idle) if self._idle[i][0] == key), None)
                if number is None:
                    return None
                found = self._idle.pop(number)[1]
            if found.is_current:
                return found
            _close([found])

    def _put_back(self, key: Key, lent: _Open) -> None:
        surplus = []
        with self._lock:
            self._idle[id(lent)] = (key, lent)
            while len(self._idle) > IDLE_LIMIT:
                surplus.append(self._idle.popitem(last=False)[1][1])
        _close(surplus)


def _close(opened: list[_Open]) -> None:
    for each in opened:
        each.dataset.close()


handles = _Handles()
"""The open datasets of this process."""
