"""What the cache keeps of a whole image: its counts, and what follows from its overview."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine.ledger.values import UNREADABLE, read_arrays, read_tensors, write_arrays
from napari_restore.images import cache_dir, mark_entry, trim_cache
from napari_restore.models import BINS, BlockStatistics, Context, Statistics

CACHE_BYTES = 256 << 20
"""Entries on disk above which the least recently used are removed."""
ENTRY_BYTES = 2 << 20
"""Bytes of an entry up to which it takes an overview, and statistics that models prepared."""
HEADERS = 16 << 10
"""Bytes of an entry for its marker, and for names and headers of the arrays in its files."""
ASIDE_BYTES = 256 << 20
"""Overviews that are not kept lie in unnamed files of this process, up to so many bytes."""
PACKED_ROWS = 128
"""Rows of an overview that are compressed at a time: Blosc takes 2 GiB at most."""
COUNTS, OVERVIEW, PREPARED = "context.npz", "overview.npz", "prepared"
HOLDER = "holder"
"""File with the number of the process that holds the overview: a window plans, its child runs."""
COUNTED = {"bins": "i4", "histograms": "i8", "dark_counts": "i8", "dark_sums": "f8"}
"""Arrays of the counts that are packed, and their types."""
Arrays = dict[str, npt.NDArray[Any]]
Overview = npt.NDArray[np.float32]


def context_path(key: str) -> Path:
    """Return the path at which the counts of the context of this key are cached."""
    return cache_dir() / "contexts" / key / COUNTS


def keep_context(key: str, context: Context, about: dict[str, Any]) -> None:
    """Keep a context for later: on disk, but for an overview that is too large for that."""
    # Noise cannot be packed. An overview that is left out stays with this process, and
    # `keep_prepared` keeps what a model made of it.
    counts = context_path(key)
    mark_entry(counts.parent, about)
    write_arrays(counts, _packed_counts(context), key)
    overview = _packed(context.overview, ENTRY_BYTES - HEADERS - counts.stat().st_size)
    if overview is None:
        counts.with_name(OVERVIEW).unlink(missing_ok=True)
        _aside.put(key, context.overview)
    else:
        write_arrays(counts.with_name(OVERVIEW), overview, key)
    trim_cache(CACHE_BYTES, ["contexts"])


def find_kept(key: str, *, overview: bool) -> Context | None:
    """Return the context of this key, perhaps without `overview`; None if any of it is missing or damaged."""
    path = context_path(key)
    try:
        counts = read_arrays(path, key)
        counts |= {name: _unpacked(counts, name) for name in COUNTED}
        shown = None
        if overview:
            shown = _aside.get(key)
            if shown is None:
                shown = _unpacked_overview(read_arrays(path.with_name(OVERVIEW), key))
        return with_counts(counts, shown)
    except UNREADABLE:
        # Missing, damaged, or written by another program: computed again.
        return None


def has_overview(key: str) -> bool:
    """Return whether the overview of this key is at hand, also of a child of this process."""
    import psutil

    path = context_path(key)
    if _aside.has(key) or path.with_name(OVERVIEW).exists():
        return True
    try:
        holder = psutil.Process(int(path.with_name(HOLDER).read_text()))
        return bool(holder.ppid() == os.getpid())
    except (OSError, ValueError, OverflowError, psutil.Error):
        return False


def prepared_path(key: str, name: str) -> Path:
    """Return the path of what a model prepared from the context of `key`; `name` says which."""
    return context_path(key).with_name(f"{PREPARED}-{name}.npz")


def keep_prepared(key: str, name: str, statistics: Statistics) -> None:
    """Keep what a model prepared from a context whose overview is not kept on disk."""
    path = prepared_path(key, name)
    folder = path.parent
    if (folder / OVERVIEW).exists() or not (folder / COUNTS).exists():
        return
    # The oldest go where an entry would become too large, or it is not kept at all.
    arrays = {name: value.numpy(force=True) for name, value in statistics.items()}
    if sum(array.nbytes for array in arrays.values()) > ENTRY_BYTES:
        return
    # Another process may remove files meanwhile; without space it is prepared again.
    with contextlib.suppress(OSError):
        write_arrays(path, arrays, key + name)
        older = sorted(folder.glob(f"{PREPARED}-*.npz"), key=lambda each: each.stat().st_mtime)
        for each in [*(other for other in older if other != path), path]:
            if sum(file.stat().st_size for file in folder.iterdir()) <= ENTRY_BYTES:
                break
            each.unlink(missing_ok=True)


def find_prepared(key: str, name: str) -> Statistics | None:
    """Return what `keep_prepared` kept; None if it is missing or damaged."""
    return read_tensors(prepared_path(key, name), key + name)


class _Aside:
    """Overviews in unnamed files, which go with the process; the latest ones."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[IO[bytes], tuple[int, ...], Path]] = OrderedDict()
        self._lock = threading.Lock()
        atexit.register(self.clear)

    def clear(self) -> None:
        with self._lock:
            for key in list(self._files):
                self._drop(key)

    def has(self, key: str) -> bool:
        return key in self._files

    def put(self, key: str, overview: Overview) -> None:
        # Without space on the disk the image is read again.
        with self._lock, contextlib.suppress(OSError):
            self._drop(key)
            file = tempfile.TemporaryFile(dir=cache_dir())
            file.write(np.ascontiguousarray(overview).data)
            holder = context_path(key).with_name(HOLDER)
            self._files[key] = file, overview.shape, holder
            holder.write_text(str(os.getpid()))
            while sum(4 * math.prod(shape) for _, shape, _ in self._files.values()) > ASIDE_BYTES:
                self._drop(next(iter(self._files)))

    def get(self, key: str) -> Overview | None:
        with self._lock:
            if key not in self._files:
                return None
            self._files.move_to_end(key)
            file, shape, _ = self._files[key]
            overview = np.empty(shape, np.float32)
            file.seek(0)
            file.readinto(overview.data.cast("B"))  # type: ignore[attr-defined]
            return overview

    def _drop(self, key: str) -> None:
        if key in self._files:
            file, _, holder = self._files.pop(key)
            file.close()
            with contextlib.suppress(OSError):
                holder.unlink()


_aside = _Aside()

# -- arrays of a context -------------------------------------------------------------


def used_bins(counts: BlockStatistics | Context) -> dict[str, npt.NDArray[Any]]:
    """Return the counts of the n bins that are not empty, by name, and their numbers as ``"bins"``."""
    used = np.flatnonzero(counts.histograms.any(axis=0) | (counts.dark_counts > 0))
    return {
        "bins": used.astype(np.int32),
        "histograms": counts.histograms[:, used],
        "dark_counts": counts.dark_counts[used],
        "dark_sums": counts.dark_sums[used],
    }


def all_bins(arrays: Mapping[str, npt.NDArray[Any]]) -> BlockStatistics:
    """Return the counts of which `used_bins` gave the arrays."""
    bins, bands = arrays["bins"], len(arrays["histograms"])
    counts = BlockStatistics(
        np.zeros((bands, BINS), np.int64), np.zeros(BINS, np.int64), np.zeros((BINS, bands))
    )
    counts.histograms[:, bins] = arrays["histograms"]
    counts.dark_counts[bins], counts.dark_sums[bins] = arrays["dark_counts"], arrays["dark_sums"]
    return counts


def counts_of(context: Context) -> Arrays:
    """Return everything of a context but its overview; most bins are empty, and left out."""
    return {
        "scalars": np.array([context.height, context.width, context.factor]),
        "dtype": np.array(context.dtype),
        "dark_bands": np.array(context.dark_bands),
        **used_bins(context),
    }


def with_counts(arrays: Mapping[str, npt.NDArray[Any]], overview: Overview | None) -> Context:
    """Return the context of `counts_of` and an overview; None: it has no pixels."""
    height, width, factor = (int(v) for v in arrays["scalars"])
    counts = all_bins(arrays)
    return Context(
        height,
        width,
        str(arrays["dtype"]),
        tuple(int(b) for b in arrays["dark_bands"]),
        factor,
        np.empty((0, 0, len(counts.histograms)), np.float32) if overview is None else overview,
        **vars(counts),
    )


def _packed_counts(context: Context) -> Arrays:
    from numcodecs import blosc

    arrays = counts_of(context)
    for name, dtype in COUNTED.items():
        values = np.ascontiguousarray(arrays[name], dtype)
        packed = blosc.compress(values, b"zstd", 5, blosc.SHUFFLE)
        arrays[name] = np.frombuffer(packed, np.uint8)
        arrays[f"{name}.shape"] = np.array(values.shape)
    return arrays


def _unpacked(arrays: Arrays, name: str) -> npt.NDArray[Any]:
    from numcodecs import blosc

    shape = tuple(arrays[f"{name}.shape"])
    if 0 in shape:  # of an image without a valid pixel; Blosc unpacks no empty array
        return np.empty(shape, COUNTED[name])
    return np.frombuffer(blosc.decompress(arrays[name]), COUNTED[name]).reshape(shape)


def _packed(overview: Overview, most: int) -> Arrays | None:
    """Return an overview in a third of its bytes; None where that is more than `most`."""
    from numcodecs import blosc

    arrays: Arrays = {"shape": np.array(overview.shape)}
    total = 0
    for top in range(0, overview.shape[0], PACKED_ROWS):
        rows = np.ascontiguousarray(overview[top : top + PACKED_ROWS])
        packed = blosc.compress(rows, b"lz4", 1, blosc.BITSHUFFLE)
        arrays[f"rows.{top}"] = np.frombuffer(packed, np.uint8)
        total += len(packed)
        if total > most:
            return None
    return arrays


def _unpacked_overview(arrays: Arrays) -> Overview:
    from numcodecs import blosc

    overview = np.empty(arrays["shape"], np.float32)
    for top in range(0, overview.shape[0], PACKED_ROWS):
        blosc.decompress(arrays[f"rows.{top}"], overview[top : top + PACKED_ROWS])
    return overview
