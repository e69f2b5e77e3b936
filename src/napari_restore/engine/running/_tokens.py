"""Tokens of a run on disk: those of the encoder and those of the bottleneck."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore._json_shapes import read_json
from napari_restore.engine.ledger._shared_slabs import OpenSlab
from napari_restore.engine.ledger._slab import SlabFile
from napari_restore.engine.ledger._store_files import STAGED
from napari_restore.engine.planning._grid import tile_bytes
from napari_restore.engine.planning._map_layout import SweptLayout
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._shared_costs import TOKENS
from napari_restore.errors import ResourceError, is_disk_full
from napari_restore.models import SweptModel, WholeStep

CHECKPOINT_SECONDS = 20.0
"""A layer's result is kept when this much work would be lost with it."""
ROWS = 64
"""Rows of the grid written or read at a time."""


class TokenStore:
    """Tokens on disk, tile by tile, so that encoding and decoding read only what they work on.

    Encoded tokens are written as they come; layers of the bottleneck leave a checkpoint; its result
    is complete or absent. A killed run continues from whichever is the latest. All are float32.
    Kept beside the result, so that another target of the same image is only decoded.
    """

    def __init__(
        self,
        folder: Path,
        layout: SweptLayout,
        width: int,
        side: int,
        margin: int,
        key: str,
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        """Store tokens of `width` channels, `side` along each side of a tile.

        The bottleneck's are kept with `margin` more around every tile.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.shape = layout.rows * side, layout.columns * side, width
        self._layout, self._side, self._margin, self._width = layout, side, margin, width
        self._folder, self._key = folder, key
        count = layout.rows * layout.columns
        record, finished = (tile_bytes(width, side, around) for around in (0, margin))
        self.encoded = open_slab(folder / "encoded", record, count, key=key, what="tokens")
        try:
            self._finished = open_slab(folder / TOKENS, finished, count, key=key, what="tokens")
        except BaseException:
            self.encoded.close()
            raise
        self._saved = time.monotonic()

    @classmethod
    def of(cls, plan: Plan, open_slab: OpenSlab = SlabFile) -> TokenStore | None:
        """Return the maps that the model of a plan takes as a whole; None if there are none."""
        model, layout = plan.model, plan.staged
        assert isinstance(model, SweptModel) and layout is not None
        step = next((step for step in model.steps() if isinstance(step, WholeStep)), None)
        if step is None:
            return None
        side, width = plan.layout.tile // step.reads.stride, step.reads.channels
        folder = plan.store / STAGED
        return cls(folder, layout, width, side, step.margin, plan.key, open_slab)

    @property
    def is_finished(self) -> bool:
        """Whether the bottleneck has been completed."""
        return bool(self._finished.done.all())

    # -- tiles -----------------------------------------------------------------------

    def put_encoded(self, tile: int, tokens: Tensor) -> None:
        """Write (C, side, side) of the `tile`-th tile, row by row."""
        self.encoded.put(tile, _bytes_of(tokens))

    def tile(self, tile: int) -> tuple[Tensor, Tensor]:
        """Return (C, side + 2 · margin, …) from the bottleneck, and (C, side, side) as encoded."""
        return self._get(self._finished, tile, self._margin), self._get(self.encoded, tile)

    def _get(self, slab: SlabFile, tile: int, margin: int = 0) -> Tensor:
        content = slab.get(tile)
        if content is None:
            self.encoded.remove()
            self._finished.remove()
            raise ResourceError(
                f"The tokens in {self._folder} are damaged and were removed.",
                "Run the same command again.",
            )
        values = torch.from_numpy(content.view(np.float32))
        side = self._side + 2 * margin
        return values.reshape(self._width, side, side)

    # -- the grid --------------------------------------------------------------------

    def load(self, device: torch.device, tick: Callable[[], None]) -> tuple[Tensor, int]:
        """Return the grid (H, W, C) on `device`, and the layer it is to go through next.

        -1 is before the first: positions are not added yet. `tick` is called regularly, and may
        raise.
        """
        grid = torch.empty(self.shape, device=device)
        layer = self._load_checkpoint(grid, tick)
        if layer is not None:
            return grid, layer
        del grid
        return self.encoded_grid(device, tick), -1

    def encoded_grid(self, device: torch.device, tick: Callable[[], None]) -> Tensor:
        """Return the encoder's tokens (H, W, C) on `device`."""
        grid = torch.empty(self.shape, device=device)
        for tile in range(self._layout.rows * self._layout.columns):
            tick()
            self._place(grid, tile)[:] = self._get(self.encoded, tile).permute(1, 2, 0).to(device)
        return grid

    def checkpoint(self, grid: Tensor, layer: int, tick: Callable[[], None]) -> None:
        """Keep `grid`, which `layer` is to process next, if much work is in it."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        partial, checksum = self._folder / "layer.part", 0
        try:
            with open(partial, "wb") as file:
                for y in range(0, self.shape[0], ROWS):
                    tick()
                    strip = _bytes_of(grid[y : y + ROWS])
                    checksum = zlib.crc32(strip, checksum)
                    file.write(strip)
            os.replace(partial, self._folder / "layer")
            header = {"key": self._key, "shape": self.shape, "layer": layer, "crc32": checksum}
            (self._folder / "layer.json").write_text(json.dumps(header), encoding="utf-8")
        except OSError as error:
            partial.unlink(missing_ok=True)
            # For convenience only: on a full disk the run itself goes on.
            if not is_disk_full(error):
                raise
        self._saved = time.monotonic()

    def _load_checkpoint(self, grid: Tensor, tick: Callable[[], None]) -> int | None:
        """Fill `grid` from the latest complete checkpoint and return the layer that comes next."""
        try:
            header = read_json(self._folder / "layer.json")
            if header["key"] != self._key or header["shape"] != list(self.shape):
                return None
            checksum = 0
            with open(self._folder / "layer", "rb") as file:
                for y in range(0, self.shape[0], ROWS):
                    tick()
                    strip = torch.empty(grid[y : y + ROWS].shape)
                    file.readinto(_bytes_of(strip))
                    checksum = zlib.crc32(_bytes_of(strip), checksum)
                    grid[y : y + ROWS] = strip.to(grid.device)
            return int(header["layer"]) if header["crc32"] == checksum else None
        except (OSError, ValueError, KeyError, TypeError):
            # Missing, or torn by a crash: the layers are run again.
            return None

    def finish(self, grid: Tensor, tick: Callable[[], None]) -> None:
        """Cut the bottleneck's result into tiles and write it."""
        for tile in range(self._layout.rows * self._layout.columns):
            tick()
            self._finished.put(tile, _bytes_of(self._around(grid, tile)))
        for name in ("layer", "layer.json"):
            (self._folder / name).unlink(missing_ok=True)

    def _place(self, grid: Tensor, tile: int) -> Tensor:
        """Return the (side, side, C) of `grid` that belongs to a tile."""
        row, column = divmod(tile, self._layout.columns)
        side = self._side
        return grid[row * side : (row + 1) * side, column * side : (column + 1) * side]

    def _around(self, grid: Tensor, tile: int) -> Tensor:
        """Return a tile's tokens and those around, (C, side + 2 · margin, …)."""
        row, column = divmod(tile, self._layout.columns)
        cut, beyond = [], []
        for at, length in zip((row, column), grid.shape, strict=False):
            first, last = at * self._side - self._margin, (at + 1) * self._side + self._margin
            cut.append(slice(max(first, 0), last))
            beyond.append((max(-first, 0), max(last - length, 0)))
        window = grid[tuple(cut)].permute(2, 0, 1)
        return nn.functional.pad(window[None], (*beyond[1], *beyond[0]), mode="replicate")[0]

    # -- the end ---------------------------------------------------------------------

    def close(self) -> None:
        self.encoded.close()
        self._finished.close()


def _bytes_of(tensor: Tensor) -> memoryview:
    values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return values.reshape(-1).view(np.uint8).data
