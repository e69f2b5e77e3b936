"""Some of an image's bands as an image of their own."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._profile import Profile
from napari_restore.images._reader import InnerReader, Reader, extended
from napari_restore.images._source import Box, chunk_box
from napari_restore.images.cache.chunks import read_valid_window, read_window
from napari_restore.images.values.presets import COLOURS

Array = npt.NDArray[Any]


class SelectedReader(InnerReader):
    """The bands `numbers` (from 0) of another reader, in that order.

    `roles`, one per band of that reader, are the colours that its file does not name. A pixel is
    valid where it is in the whole file, the bands left out included.
    """

    cached = False

    def __init__(
        self, inner: Reader, numbers: tuple[int, ...], roles: tuple[str | None, ...] = ()
    ) -> None:
        super().__init__(inner)
        self.numbers, self.bands = numbers, len(numbers)
        self.random_access, self.block_bytes = inner.random_access, inner.block_bytes
        self.notes = list(inner.notes)
        self.profile = _selected(inner.profile, numbers, roles)
        self._rows: tuple[int, int, Array] | None = None
        self._lock = threading.Lock()

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self._chosen(
            read_window(self.inner, level, chunk_box(self.levels[level], row, column))
        )

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return read_valid_window(self.inner, level, box)

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        whole = read_window(self.inner, level, box)
        return self._chosen(self.inner.band_valid_in(level, box, whole))

    def read_rows(self, y0: int, y1: int) -> Array:
        rows = self.inner.read_rows(y0, y1)
        with self._lock:
            # Their validity is read next, and rows are cheap only in order.
            self._rows = (y0, y1, rows) if self.may_be_invalid else None
        return self._chosen(rows)

    def read_valid_rows(self, y0: int, y1: int, pixels: Array) -> npt.NDArray[np.bool_]:
        with self._lock:
            last_rows = self._rows
        if last_rows is not None and last_rows[:2] == (y0, y1):
            rows = last_rows[2]
        else:
            rows = self.inner.read_rows(y0, y1)
        return self.inner.read_valid_rows(y0, y1, rows)

    def fingerprint(self) -> str:
        # Two selections of one file are two contents.
        return extended(self.inner.fingerprint(), f"{list(self.numbers)}")

    def close(self) -> None:
        super().close()
        with self._lock:
            self._rows = None

    def _chosen(self, pixels: Array) -> Array:
        return np.ascontiguousarray(pixels[..., list(self.numbers)])


def _selected(profile: Profile, numbers: tuple[int, ...], roles: tuple[str | None, ...]) -> Profile:
    """Return `profile` with the descriptions of the chosen bands only."""
    chosen, known = profile.of_bands(numbers), set(profile.colorinterp)
    # A file with unknown bands calls the first one grey.
    if not roles or not known <= {"gray", "undefined", "alpha"}:
        return chosen
    named = tuple(
        role if (role := roles[number]) in COLOURS else name
        for number, name in zip(numbers, chosen.colorinterp, strict=False)
    )
    return replace(chosen, colorinterp=named)
