"""Pictures of formats that can only be decoded as a whole."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from napari_restore.errors import RestoreError, UnreadableImage
from napari_restore.images._profile import Profile
from napari_restore.images._reader import Reader
from napari_restore.images._source import Level, chunk_box
from napari_restore.images.files.claims import check_whole_size

Read = TypeVar("Read")


class Picture(NamedTuple):
    """What a file says of its picture before it is decoded."""

    height: int
    width: int
    dtype: npt.DTypeLike
    colours: tuple[str, ...]
    """One for each band, as `Profile.colorinterp` has them."""
    about: Mapping[str, Any] = {}
    """Further fields of its `Profile`."""


class WholeReader(Reader):
    """A reader that decodes all pixels at once, and keeps them until the last row was read."""

    # A format has `supports`, `_header` and `_decode`. What its decoder raises becomes one
    # sentence.

    KIND: ClassVar[str]
    """What a file is, for messages: "a HEIF photo"."""
    REPAIR: ClassVar[str] = "It seems damaged or truncated; copy it again."
    """What to do about one that is damaged."""
    random_access = False

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        self._pixels: npt.NDArray[Any] | None = None
        self._lock = threading.Lock()
        height, width, dtype, colours, about = self._read(self._header)
        self.bands, self.dtype = len(colours), np.dtype(dtype)
        self.block_bytes = height * width * self.bands * self.dtype.itemsize
        check_whole_size(path.name, self.block_bytes)
        self.levels = (Level.cut(height, width),)
        self.may_be_invalid = "alpha" in colours
        masks: Any = "alpha" if self.may_be_invalid else "none"
        self.profile = Profile(colorinterp=colours, masks=masks, **about)

    @abstractmethod
    def _header(self) -> Picture:
        """Return what the file says; add to `notes`."""

    @abstractmethod
    def _decode(self) -> npt.NDArray[Any]:
        """Return the whole picture (H, W, C), or (H, W)."""

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        y0, x0, y1, x1 = chunk_box(self.levels[level], row, column)
        return self._decoded()[y0:y1, x0:x1].copy()

    def read_rows(self, y0: int, y1: int) -> npt.NDArray[Any]:
        rows = self._decoded()[y0:y1].copy()
        if y1 >= self.levels[0].height:
            self._pixels = None
        return rows

    def close(self) -> None:
        self._pixels = None

    def _decoded(self) -> npt.NDArray[Any]:
        with self._lock:
            pixels = self._pixels
            if pixels is None:
                pixels = np.atleast_3d(self._read(self._decode))
                expected = (*self.levels[0][:2], self.bands)
                if pixels.shape != expected or pixels.dtype != self.dtype:
                    problem = f"it has {pixels.dtype} {pixels.shape}, not {self.dtype} {expected}"
                    raise self._unreadable(problem)
                self._pixels = pixels
            return pixels

    def _read(self, step: Callable[[], Read]) -> Read:
        try:
            return step()
        except RestoreError:
            raise
        except Exception as error:  # the decoder's own, and those of damaged metadata
            raise self._unreadable(error) from error

    def _unreadable(self, problem: object) -> UnreadableImage:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        return UnreadableImage(
            f"{self.path.name} cannot be read as {self.KIND}: {lines[0].rstrip('.')}.", self.REPAIR
        )
