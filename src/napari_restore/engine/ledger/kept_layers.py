"""Input of every layer of a whole step on disk, token by token, for rows of its attention."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore._format import format_size
from napari_restore.engine.ledger.values import Values, rows_into, rows_of
from napari_restore.errors import DiskFull, disk_full_as, option

LAYERS = "layers"
"""Folder of the layers, beside the tokens of a run."""
TOKENS = "tokens"
"""Part with a layer's input."""


class KeptLayers:
    """Inputs of the layers of a run's whole step, and what the layers decided."""

    # Written layer by layer, as `Values` each. A killed run goes on from the last complete one.
    # What is damaged, or of another key, counts as missing.
    def __init__(self, folder: Path, key: str, shape: tuple[int, int, int], layers: int) -> None:
        """Open the layers of a grid of `shape` (H, W, C) tokens."""
        self._folder, self.shape, self.count = folder / LAYERS, shape, layers
        self._layers = [
            Values(self._folder, str(layer), f"{key} {list(shape)}") for layer in range(layers)
        ]
        found = [values.about() for values in self._layers]
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
        with self._disk_full_named():
            self._layers[layer].put(TOKENS, rows_of(grid, tick))

    def finish(self, layer: int, decided: Mapping[Hashable, Tensor]) -> None:
        """Write what `layer` decided: its input and this are complete then."""
        if layer < self._complete:
            return
        arrays: dict[str, Any] = {}
        with self._disk_full_named():
            for name, value in decided.items():
                array = np.ascontiguousarray(value.detach().cpu().numpy())
                arrays[_text(name)] = [str(array.dtype), list(array.shape)]
                self._layers[layer].put(_text(name), [array.reshape(-1).view(np.uint8).data])
            self._layers[layer].finish(decided=arrays)
        self._complete = layer + 1

    def _disk_full_named(self) -> AbstractContextManager[None]:
        return disk_full_as(
            f"There is no space for the layers in {self._folder}.",
            f"Free some, or point {option('scratch')} elsewhere.",
        )

    # -- reading -----------------------------------------------------------------

    def latest(self, device: torch.device, tick: Callable[[], None]) -> tuple[Tensor, int] | None:
        """Return the input (H, W, C) of the last complete layer, and its number; None without one."""
        while self._complete:
            grid = torch.empty(self.shape, device=device)
            if self._layers[self._complete - 1].read(TOKENS, rows_into(grid, tick)):
                return grid, self._complete - 1
            self._complete -= 1
        return None

    def layer(self, layer: int) -> KeptLayer:
        """Return one complete layer, for rows of its attention."""
        values = self._layers[layer]
        about = values.about()
        assert about is not None, "verified before"
        decided = {
            name: (values.path(name), dtype, tuple(shape))
            for name, (dtype, shape) in about["decided"].items()
        }
        return KeptLayer(values.path(TOKENS), self.shape, decided)

    def verify(self) -> bool:
        """Read all layers; return whether they are as they were written, and drop those that are not."""
        for layer, values in enumerate(self._layers[: self._complete]):
            if not values.verify():
                self._complete = layer
                return False
        return True


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
