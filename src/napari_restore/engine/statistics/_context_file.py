"""Context files, written atomically, with a checksum that damage or tampering breaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_restore._replacing import replacing
from napari_restore.models import BINS, Context

UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError)
"""Exceptions that reading a damaged file may raise."""


def write_context(path: Path, context: Context, key: str = "") -> None:
    """Write the file atomically, with a checksum of its content keyed by `key`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    used = np.flatnonzero(context.histograms.any(axis=0) | (context.dark_counts > 0))
    arrays = {
        "scalars": np.array([context.height, context.width, context.factor]),
        "dtype": np.array(context.dtype),
        "dark_bands": np.array(context.dark_bands),
        "overview": context.overview,
        "bins": used.astype(np.int32),
        "histograms": context.histograms[:, used],
        "dark_counts": context.dark_counts[used],
        "dark_sums": context.dark_sums[used],
    }
    with replacing(path) as part, part.open("wb") as file:
        # Most bins are empty. Compressing the overview as well would take longer than computing the
        # context again.
        np.savez(file, digest=np.array(_digest(arrays, key)), **arrays)  # type: ignore[arg-type]


def _digest(arrays: Mapping[str, npt.NDArray[Any]], key: str) -> str:
    """Return a checksum of names, types, shapes and values, keyed by `key`."""
    digest = hashlib.blake2b(key=key.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays_in(file: BinaryIO) -> dict[str, Any]:
    """Return the arrays of an .npz file; raises `ValueError`."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:
        # Errors of zip, zlib, and array headers, which are Python and may claim any size.
        raise ValueError(f"it contains no arrays: {error}") from error


def read_context(path: Path, key: str = "") -> Context:
    """Return what `write_context` wrote under the same key; raise one of `UNREADABLE`."""
    with open(path, "rb") as file:
        data = _arrays_in(file)
    if str(data.pop("digest")) != _digest(data, key):
        raise ValueError(f"the checksum of {path} does not match")
    height, width, factor = (int(v) for v in data["scalars"])
    bins = data["bins"]
    bands = data["histograms"].shape[0]
    histograms = np.zeros((bands, BINS), np.int64)
    histograms[:, bins] = data["histograms"]
    dark_counts, dark_sums = np.zeros(BINS, np.int64), np.zeros((BINS, bands))
    dark_counts[bins], dark_sums[bins] = data["dark_counts"], data["dark_sums"]
    return Context(
        height,
        width,
        str(data["dtype"]),
        tuple(int(b) for b in data["dark_bands"]),
        factor,
        data["overview"],
        histograms,
        dark_counts,
        dark_sums,
    )
