"""Values in files: valid once a description, written last, says so, or by a checksum of their own."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore._journal import Journal
from napari_restore._plain_files import open_file
from napari_restore._replacing import replacing

if TYPE_CHECKING:
    from torch import Tensor

UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError)
"""Exceptions that reading a damaged file may raise."""
ROWS = 64
"""Rows of a grid written or read at a time."""
_READ = 1 << 24


class Values:
    """Files NAME.PART of a folder, valid once NAME.json, written last, describes them."""

    # What is missing, torn, or of a run with another key counts as missing. One process writes.
    def __init__(self, folder: Path, name: str, key: str) -> None:
        self._folder, self._name = folder, name
        self._description = Journal(folder / f"{name}.json", {"key": key})
        self._files: dict[str, list[int]] = {}

    def path(self, part: str) -> Path:
        return self._folder / f"{self._name}.{part}"

    def put(self, part: str, content: Iterable[memoryview]) -> None:
        """Write a part, piece by piece; it is not valid before `finish`."""
        size = crc = 0
        try:
            with open(self.path(part), "wb") as file:
                for piece in content:
                    crc = zlib.crc32(piece, crc)
                    size += file.write(piece)
        except BaseException:
            self.path(part).unlink(missing_ok=True)
            raise
        self._files[part] = [size, crc]

    def finish(self, **about: Any) -> None:
        """Make the parts valid that were put, with what `about` says of them; remove others."""
        files, self._files = self._files, {}
        self._description.rewrite({**about, "files": files})
        valid = {self._description.path, *map(self.path, files)}
        for path in set(self._folder.glob(f"{self._name}.*")) - valid:
            path.unlink(missing_ok=True)

    def about(self) -> dict[str, Any] | None:
        """Return what `finish` was given about them; None where there are no valid values."""
        try:
            (found,) = self._description.read()
            # The sizes of the files are compared, not their content.
            sizes = {part: size for part, (size, _) in found["files"].items()}
            if any(self.path(part).stat().st_size != size for part, size in sizes.items()):
                return None
        except (OSError, ValueError):
            return None
        return found

    def read(self, part: str, into: Iterable[memoryview]) -> bool:
        """Fill `into`, piece by piece, with a part; return whether it is as it was put."""
        crc, found = 0, self.about()
        if found is None:
            return False
        with open(self.path(part), "rb") as file:
            for piece in into:
                file.readinto(piece)
                crc = zlib.crc32(piece, crc)
        return bool(crc == found["files"][part][1])

    def verify(self) -> bool:
        """Return whether all parts are as they were put; drop them where they are not."""
        found = self.about()
        whole = found is not None and all(
            crc == _crc_of(self.path(part)) for part, (_, crc) in found["files"].items()
        )
        if not whole:
            self._description.clear()
        return whole

    def remove(self) -> None:
        """Remove all files."""
        self._description.clear()
        for path in self._folder.glob(f"{self._name}.*"):
            path.unlink(missing_ok=True)


def rows_of(grid: Tensor, tick: Callable[[], None]) -> Iterator[memoryview]:
    """Yield a grid (H, W, C) as float32 for `Values.put`; calls `tick` regularly."""
    for y in range(0, grid.shape[0], ROWS):
        tick()
        yield bytes_of(grid[y : y + ROWS])


def rows_into(grid: Tensor, tick: Callable[[], None]) -> Iterator[memoryview]:
    """Yield what `Values.read` is to fill; takes it to a grid (H, W, C). Calls `tick` regularly."""
    import torch

    for y in range(0, grid.shape[0], ROWS):
        tick()
        strip = torch.empty(grid[y : y + ROWS].shape)
        yield bytes_of(strip)
        grid[y : y + ROWS] = strip.to(grid.device)


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the values as float32; those of a contiguous float32 tensor in RAM are shared."""
    import torch

    values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return values.reshape(-1).view(np.uint8).data


def _crc_of(path: Path) -> int | None:
    crc = 0
    try:
        with open(path, "rb") as file:
            while content := file.read(_READ):
                crc = zlib.crc32(content, crc)
    except OSError:
        return None
    return crc


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], key: str) -> None:
    """Write an .npz file, atomically, with a checksum of its content keyed by `key`."""
    with replacing(path) as part, part.open("wb") as file:
        # Compressing would often take longer than computing the values again.
        np.savez(file, digest=np.array(_digest(arrays, key)), **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, key: str) -> dict[str, npt.NDArray[Any]]:
    """Return what `write_arrays` wrote under the same key; raise one of `UNREADABLE`."""
    # Opened here: numpy leaves a damaged file open.
    with open_file(path) as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except Exception as error:
            # Errors of zip, zlib, and array headers, which are Python and may claim any size.
            raise ValueError(f"it contains no arrays: {error}") from error
    if str(arrays.pop("digest")) != _digest(arrays, key):
        raise ValueError(f"the checksum of {path} does not match")
    return arrays


def read_tensors(path: Path, key: str) -> dict[str, Tensor] | None:
    """Return what `write_arrays` wrote, on the processor; None if it is missing or damaged."""
    import torch

    try:
        arrays = read_arrays(path, key)
    except UNREADABLE:
        return None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _digest(arrays: Mapping[str, npt.NDArray[Any]], key: str) -> str:
    """Return a checksum of names, types, shapes and values, keyed by `key`."""
    digest = hashlib.blake2b(key=key.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
