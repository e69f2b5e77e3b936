"""Pool of open GDAL datasets, each lent to one thread at a time."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore.images.files.remote import DRIVERS as REMOTE_DRIVERS, GDAL_FOLDERS, options_for

IDLE_LIMIT = 48
"""Datasets kept open in the whole process while no thread reads them."""
_WATCHED = 64
"""Files of one dataset that are checked for changes; a VRT may have thousands."""


class DatasetKey(NamedTuple):
    """Identifies a dataset."""

    path: str
    overview: int | None = None
    """Overview level; None is full resolution."""
    sidecars: bool = True
    """False: files beside it are ignored; see `check_references`."""
    opened: int = 0
    """Number of the reader of a file on a server or in a zip, which shows no change by itself: a
    dataset that another reader has opened may be of an earlier content."""
    directory: int = 0
    """Offset of a TIFF's directory; 0 is the first, with its overviews and masks."""
    grid: str = ""
    """GDAL's name of one of several grids of the file."""

    @property
    def is_remote(self) -> bool:
        """Whether it is read from a server."""
        return self.path.startswith(GDAL_FOLDERS)

    @property
    def options(self) -> dict[str, Any]:
        """Settings of GDAL under which it is read, beside those of all."""
        return options_for(self.path) if self.is_remote else {}


def environment(**options: Any) -> Any:
    """Return rasterio's environment for every call of this package; keeps GDAL quiet."""
    import rasterio

    for name in PROXY_EXCEPTIONS:
        if name in os.environ:
            # For C libraries only: Python's `os.environ` does not see it.
            os.unsetenv(name)
    for name in ("unraisablehook", "excepthook"):
        if not isinstance(getattr(sys, name), _Quiet):
            setattr(sys, name, _Quiet(getattr(sys, name)))
    return rasterio.Env(**{**OPTIONS, **options})


class _Quiet:
    """A Python hook that prints nothing where rasterio fails to log a message of GDAL."""

    # Such a message may contain bytes of a damaged file, which rasterio takes for UTF-8. Cython
    # calls both hooks with that: the one for exceptions without a traceback, as no other has one.
    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before

    def __call__(self, *arguments: Any) -> None:
        if len(arguments) == 1:
            is_log = str(arguments[0].object).startswith("rasterio._env.log_error")
        else:
            kind, _, trace = arguments
            is_log = kind is UnicodeDecodeError and trace is None
        if not is_log:
            self._before(*arguments)


# warnings.catch_warnings is not thread safe, neither here nor within rasterio.
_filtering = threading.Lock()


@contextlib.contextmanager
def ignore_missing_georeference() -> Iterator[None]:
    """Suppress rasterio's warning of images without a georeference, as photos and masks are."""
    from rasterio.errors import NotGeoreferencedWarning

    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@functools.cache
def _reader() -> Any:
    from rasterio.io import DatasetReader

    class Reader(DatasetReader):  # type: ignore[misc]
        """Rasterio's reader without the warning of a missing georeference."""

        def _has_gcps_or_rpcs(self) -> bool:
            # Called before it warns. Many threads open files, and changes of the warning filters by
            # those of dask and napari would undo `ignore_missing_georeference`.
            return True

    return Reader


def open_dataset(key: DatasetKey) -> Any:
    """Return a new rasterio dataset, closed by the caller."""
    extra = {} if key.overview is None else {"overview_level": key.overview}
    settings = contextlib.nullcontext() if key.sidecars else environment(**WITHOUT_SIDECARS)
    # Not rasterio.open, which takes one driver or all, network drivers included. GDAL's own sharing
    # would return one dataset to two threads.
    with settings:
        alone = key.is_remote or key.path.startswith("/vsizip/")
        drivers = list(REMOTE_DRIVERS if alone else DRIVERS)
        path = f"GTIFF_DIR:off:{key.directory}:{key.path}" if key.directory else key.path
        return _reader()(key.grid or path, driver=drivers, sharing=False, **extra)


def open_for_writing(path: Path, mode: str = "w", **creation: Any) -> Any:
    """Return a rasterio dataset, new ("w") or to be changed ("r+"), closed by the caller."""
    import rasterio

    with ignore_missing_georeference():
        return rasterio.open(path, mode, **creation)


Stamp = tuple[int, int, int] | None
"""Size, modification time and inode of a file; None for what is no file."""


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


class _Open(NamedTuple):
    """A dataset, and the stamps of its files before it was opened."""

    dataset: Any
    stamps: dict[str, Stamp]

    @property
    def is_current(self) -> bool:
        """False once a file was replaced: the dataset would still read the old one."""
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())


def _open(key: DatasetKey) -> _Open:
    stamps = {key.path: _stamp(key.path)}
    dataset = open_dataset(key)
    # The parts of a VRT, and overviews and masks that lie beside the file.
    stamps |= {path: _stamp(path) for path in dataset.files[:_WATCHED] if path != key.path}
    return _Open(dataset, stamps)


class _Handles:
    """Idle datasets by key, the longest idle closed first."""

    # A dataset whose file was replaced under the same name is never lent again.
    def __init__(self) -> None:
        self._idle: OrderedDict[int, tuple[DatasetKey, _Open]] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, key: DatasetKey) -> Iterator[Any]:
        """Lend a dataset that no other thread uses; it stays open for the next reader."""
        with environment(**key.options):
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
            gone = [i for i, (key, _) in self._idle.items() if key.path == str(path)]
            stale = [self._idle.pop(i)[1] for i in gone]
        _close(stale)

    def _take(self, key: DatasetKey) -> _Open | None:
        while True:
            with self._lock:
                number = next((i for i in reversed(self._idle) if self._idle[i][0] == key), None)
                if number is None:
                    return None
                dataset = self._idle.pop(number)[1]
            if dataset.is_current:
                return dataset
            _close([dataset])

    def _put_back(self, key: DatasetKey, lent: _Open) -> None:
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

DRIVERS = (
    "GTiff", "JPEG", "PNG", "WEBP", "JP2OpenJPEG", "VRT", "ENVI", "HFA", "EHdr", "BMP", "GIF",
    "BIGGIF", "PNM", "SGI", "TGA", "NITF", "PCIDSK", "RMF", "SAGA", "RST", "VICAR", "ISCE",
    "DTED", "USGSDEM", "AAIGrid", "GRASSASCIIGrid", "XYZ", "netCDF", "GRIB", "ROI_PAC", "GSAG",
    "GSBG", "GS7BG", "RRASTER", "LAN", "KRO", "GPKG",
)  # fmt: skip
NOWHERE = "http://127.0.0.1:9"
"""A proxy address where no server answers (the port of "discard"): requests to it reach nothing."""
PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")
"""Variables with hosts that libcurl requests past every proxy; GDAL has no option for them."""
OPTIONS = {
    # Sidecars are read; nothing here dirties a dataset, so none is written.
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_NUM_THREADS": "1",
    # Decoded chunks lie in our own cache; GDAL's needs only a few blocks.
    "GDAL_CACHEMAX": 64,
    "GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC": "YES",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": "16777216",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # No file that is opened names an address (`_references`); if one did, it would not be reached.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/nowhere",
    "GDAL_HTTP_PROXY": NOWHERE,
    "GDAL_HTTPS_PROXY": NOWHERE,
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_CONNECTTIMEOUT": "1",
    "GDAL_HTTP_TIMEOUT": "1",
    # Folder where large GIFs are unpacked; else it would be the working directory.
    "CPL_TMPDIR": tempfile.gettempdir(),
}
WITHOUT_SIDECARS = {"GDAL_PAM_ENABLED": "NO", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""Further options with which a driver ignores all files beside a file."""
