"""Input of every layer of a whole step on disk, token by token, for rows of its attention."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore._format import format_size
from napari_restore._json_shapes import read_json
from napari_restore.errors import DiskFull, disk_full_as, option

LAYERS = "layers"
"""Folder of the layers, beside the tokens of a run."""
_ROWS = 64
"""Rows of the grid written or read at a time."""
_READ = 1 << 24


class KeptLayers:
    """Inputs of the layers of a run's whole step, and what the layers decided.

    Written layer by layer; one whose description is there is complete. A killed run goes on from the
    last of them. What is damaged, or of another key, counts as missing.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, int, int], layers: int) -> None:
        """Open the layers of a grid of `shape` (H, W, C) tokens."""
        self._folder, self._key, self.shape, self.count = folder / LAYERS, key, shape, layers
        found = [self._description(layer) for layer in range(layers)]
        self._complete = found.index(None) if None in found else layers
        """Layers that are complete, from the first on."""

    @property
    def is_complete(self) -> bool:
        return self._complete == self.count

    @property
    def layer_bytes(self) -> int:
        """Bytes of the input of one layer."""
        return 4 * int(np.prod(self.shape))

    def check_disk(self, decided_bytes: Sequence[int]) -> None:
        """Raise `DiskFull` if the missing layers do not fit; each takes so many bytes more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [self.layer_bytes + each for each in decided_bytes[self._complete :]]
        if shutil.disk_usage(self._folder).free < sum(missing):
            raise DiskFull(
                f"The inputs of {len(missing)} layers take {format_size(sum(missing))} in "
                f"{self._folder}, {format_size(max(missing))} each.",
                f"Free some, or point {option('scratch')} elsewhere.",
            )

    # -- writing -----------------------------------------------------------------

    def put_input(self, layer: int, grid: Tensor, tick: Callable[[], None]) -> None:
        """Write the input (H, W, C) of `layer`. `tick` is called regularly, and may raise."""
        if layer < self._complete:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._crc = 0
        with self._disk_full_named(), open(self._tokens(layer), "wb") as file:
            for y in range(0, self.shape[0], _ROWS):
                tick()
                strip = grid[y : y + _ROWS].detach().to("cpu", torch.float32).contiguous()
                content = strip.numpy().reshape(-1).view(np.uint8).data
                self._crc = zlib.crc32(content, self._crc)
                file.write(content)

    def finish(self, layer: int, decided: Mapping[Hashable, Tensor]) -> None:
        """Write what `layer` decided: its input and this are complete then."""
        if layer < self._complete:
            return
        arrays: dict[str, Any] = {}
        with self._disk_full_named():
            for name, value in decided.items():
                array = np.ascontiguousarray(value.detach().cpu().numpy())
                array.tofile(self._decided(layer, _text(name)))
                crc = zlib.crc32(array.reshape(-1).view(np.uint8).data)
                arrays[_text(name)] = [str(array.dtype), list(array.shape), crc]
            body = {"key": self._key, "shape": list(self.shape), "crc32": self._crc}
            body |= {"decided": arrays}
            description = {"body": body, "crc32": _crc_of_json(body)}
            new = self._json(layer).with_suffix(".new")
            new.write_text(json.dumps(description), encoding="utf-8")
            os.replace(new, self._json(layer))
        self._complete = layer + 1

    def _disk_full_named(self) -> AbstractContextManager[None]:
        return disk_full_as(
            f"There is no space for the layers in {self._folder}.",
            f"Free some, or point {option('scratch')} elsewhere.",
        )

    # -- reading -----------------------------------------------------------------

    def latest(self, device: torch.device, tick: Callable[[], None]) -> tuple[Tensor, int] | None:
        """Return the input (H, W, C) of the last complete layer, and its number; None without one."""
        if not self._complete:
            return None
        layer = self._complete - 1
        grid = torch.empty(self.shape, device=device)
        content = self.layer(layer).memory
        for y in range(0, self.shape[0], _ROWS):
            tick()
            rows = slice(y * self.shape[1], (y + _ROWS) * self.shape[1])
            strip = torch.from_numpy(np.array(content[rows]))
            grid[y : y + _ROWS] = strip.view(-1, *self.shape[1:]).to(device)
        return grid, layer

    def layer(self, layer: int) -> KeptLayer:
        """Return one complete layer, for rows of its attention."""
        description = self._description(layer)
        assert description is not None, "verified before"
        decided = {
            name: (self._decided(layer, name), dtype, tuple(shape))
            for name, (dtype, shape, _) in description["decided"].items()
        }
        return KeptLayer(self._tokens(layer), self.shape, decided)

    def verify(self) -> bool:
        """Return whether all layers are as they were written; drop those that are not.

        Reads all of them.
        """
        for layer in range(self._complete):
            description = self._description(layer)
            if description is None or not self._is_undamaged(layer, description):
                self._json(layer).unlink(missing_ok=True)
                self._complete = layer
                return False
        return True

    def _is_undamaged(self, layer: int, description: dict[str, Any]) -> bool:
        files = {self._tokens(layer): description["crc32"]}
        for name, (_, _, crc) in description["decided"].items():
            files[self._decided(layer, name)] = crc
        return all(_crc_of(path) == crc for path, crc in files.items())

    def _description(self, layer: int) -> dict[str, Any] | None:
        """Return the description of a layer; None where it is missing or of another run."""
        try:
            read = read_json(self._json(layer))
            found = read["body"]
            if read["crc32"] != _crc_of_json(found) or found["key"] != self._key:
                return None
            if found["shape"] != list(self.shape):
                return None
            if self._tokens(layer).stat().st_size != self.layer_bytes:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(found)

    def _tokens(self, layer: int) -> Path:
        return self._folder / f"{layer}.tokens"

    def _decided(self, layer: int, name: str) -> Path:
        return self._folder / f"{layer}.{name}"

    def _json(self, layer: int) -> Path:
        return self._folder / f"{layer}.json"


class KeptLayer:
    """One layer's input and decisions, read where they lie; see `LayerTokens`."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        decided: Mapping[str, tuple[Path, str, tuple[int, ...]]],
    ) -> None:
        self.shape = shape
        self._decided = decided
        count = shape[0] * shape[1]
        self.memory: npt.NDArray[np.float32] = np.memmap(
            path, np.float32, mode="r", shape=(count, shape[2])
        )

    def tokens(self, numbers: Tensor) -> Tensor:
        """Return the input (n, C) float32 of the cells `numbers` (n,), each y · width + x."""
        return torch.from_numpy(self.memory[numbers.numpy()])

    def kept(self, name: Hashable) -> Tensor:
        """Return what the layer decided, by name; a view of the file."""
        path, dtype, shape = self._decided[_text(name)]
        # Copy on write, because a tensor cannot be read-only; nothing writes to it.
        return torch.from_numpy(np.memmap(path, np.dtype(dtype), mode="c", shape=shape))


def _text(name: Hashable) -> str:
    return "-".join(str(part) for part in name) if isinstance(name, tuple) else str(name)


def _crc_of_json(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())


def _crc_of(path: Path) -> int | None:
    checksum = 0
    try:
        with open(path, "rb") as file:
            while content := file.read(_READ):
                checksum = zlib.crc32(content, checksum)
    except OSError:
        return None
    return checksum
