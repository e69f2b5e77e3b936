"""Base of pyramids and streams: levels that are written to the cache part by part."""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from napari_restore.images._source import Box, Source
from napari_restore.images.cache._disk_space import no_space_as_error
from napari_restore.images.cache._folder import OpenEntry, cache_dir, entry_key, is_whole
from napari_restore.images.cache._level_store import LevelStore
from napari_restore.images.values._validity import default_fill

FORMAT = 3

OnLanded = Callable[[Box, int, int], None]
"""Called with the box written, in level-0 pixels, parts done, parts in all."""


class CachedSource(Source):
    """`base` with levels that it does not store, from the cache; missing parts read as 0.

    Parameters
    ----------
    base
        Read where the cache has nothing.
    nodata, fill
        As for `halve`; `fill` is nodata, else NaN for floats, else 0.
    """

    first: int
    """Number of the finest level in the cache."""

    def __init__(self, base: Source, *, fill: float | None, nodata: float | None) -> None:
        self.base = base
        self.bands, self.dtype = base.bands, base.dtype
        self.may_be_invalid = base.may_be_invalid
        self._nodata = nodata
        self._fill = default_fill(base.dtype, nodata) if fill is None else fill

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        """Return False: it wraps another source."""
        return False

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether every chunk of every level is there."""

    @property
    def cached(self) -> bool:
        """Whether chunks may be cached: not while some of them are still missing."""
        return self.complete

    @abstractmethod
    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk has pixels."""

    def about(self, fingerprint: str) -> dict[str, Any]:
        """Return the description of the cache entry that serves this source."""
        return {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "levels": [list(level) for level in self.levels],
            "bands": self.bands,
            "dtype": self.dtype.str,
            "fill": repr(self._fill),
            "nodata": repr(self._nodata),
            "valid": self.may_be_invalid,
            "data_bands": list(getattr(self.base, "data_bands", ())),
        }

    def close(self) -> None:
        """Close the wrapped source; the cache stays."""
        self.base.close()


class Shared:
    """Cached levels of one file, shared by all sources of it in this process."""

    KIND: ClassVar[str]
    _shared: ClassVar[weakref.WeakValueDictionary[Path, Any]] = weakref.WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, source: CachedSource, entry: OpenEntry) -> None:
        self.entry = entry
        self.building = threading.Lock()
        """Locked while a thread fills the cache."""
        with no_space_as_error(entry.path):
            self.store = LevelStore(
                entry.path,
                source.levels,
                source.bands,
                source.dtype,
                first=source.first,
                with_valid=source.may_be_invalid,
            )

    @classmethod
    def share(cls, source: CachedSource, fingerprint: str) -> Self:
        """Return the shared levels of `source`, created for the first source of its file."""
        about = source.about(fingerprint)
        with cls._guard:
            entry = OpenEntry.open(cls.KIND, entry_key(fingerprint, about), about)
            shared: Self | None = cls._shared.get(entry.path)
            if shared is None:
                shared = cls._shared[entry.path] = cls(source, entry)
            return shared

    @classmethod
    def is_whole(cls, source: CachedSource, fingerprint: str) -> bool:
        """Return whether the cache has all that `source` needs; creates nothing."""
        about = source.about(fingerprint)
        return is_whole(cache_dir() / cls.KIND / entry_key(fingerprint, about), about)


class LevelsFrom(Source):
    """The levels of `source` from number `first` on, as a source of its own."""

    def __init__(self, source: CachedSource, first: int) -> None:
        self.source, self._first = source, first
        self.levels = source.levels[first:]
        self.bands, self.dtype = source.bands, source.dtype
        self.may_be_invalid = source.may_be_invalid

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        """Return False: it wraps another source."""
        return False

    @property
    def cached(self) -> bool:
        """Whether chunks may be cached: not while some of them are still missing."""
        return self.source.complete

    def is_built(self, level: int, row: int, column: int) -> bool:
        """Return whether that chunk has pixels."""
        return self.source.is_built(level + self._first, row, column)

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        """Return a chunk; zeros while it is not built."""
        return self.source.read_chunk(level + self._first, row, column)

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return a chunk's validity."""
        return self.source.read_valid_chunk(level + self._first, row, column, pixels)
