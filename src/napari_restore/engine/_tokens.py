"""The tokens of a staged run on disk: what tiles were encoded to, what the bottleneck made."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_restore.engine._slab import SlabFile, journal_of, key_of
from napari_restore.engine._staged_layout import StagedLayout
from napari_restore.errors import ResourceError
from napari_restore.images import is_disk_full

TOKENS = "tokens"
CHECKPOINT_SECONDS = 20.0
"""A layer's result is kept when so much work would be lost with it."""
ROWS = 64
"""Rows of the grid written or read at a time."""


class TokenStore:
    """Tile by tile, so that encoding and decoding touch only what they work on.

    Encoded tokens are written as they come; layers of the bottleneck leave a checkpoint;
    its result is whole or not there. A killed run goes on from whichever is the latest.
    All are float32. Kept beside the result, so that another target of the same image is
    only decoded.
    """

    def __init__(self, folder: Path, layout: StagedLayout, width: int, side: int, key: str) -> None:
        """Tokens of `width` channels, `side` along each side of a tile."""
        folder.mkdir(parents=True, exist_ok=True)
        self.shape = layout.rows * side, layout.columns * side, width
        self._layout, self._side, self._width = layout, side, width
        self._folder, self._key = folder, key
        count = layout.rows * layout.columns
        record = width * side * side * 4
        self.encoded = SlabFile(folder / "encoded", record, count, key=key)
        self._finished = SlabFile(folder / TOKENS, record, count, key=key)
        self._saved = time.monotonic()

    @property
    def is_finished(self) -> bool:
        """Whether the bottleneck is behind us."""
        return bool(self._finished.done.all())

    # -- tiles -----------------------------------------------------------------------

    def put_encoded(self, tile: int, tokens: Tensor) -> None:
        """(C, side, side) of the `tile`-th tile, row by row."""
        self.encoded.put(tile, _bytes_of(tokens))

    def tile(self, tile: int) -> tuple[Tensor, Tensor]:
        """(C, side, side) from the bottleneck, and as they were encoded."""
        return self._get(self._finished, tile), self._get(self.encoded, tile)

    def _get(self, slab: SlabFile, tile: int) -> Tensor:
        content = slab.get(tile)
        if content is None:
            self.encoded.remove()
            self._finished.remove()
            raise ResourceError(
                f"The tokens in {self._folder} are damaged and were removed.",
                "Run the same command again.",
            )
        values = torch.from_numpy(content.view(np.float32))
        return values.reshape(self._width, self._side, self._side)

    # -- the grid --------------------------------------------------------------------

    def load(self) -> tuple[Tensor, int]:
        """The grid (H, W, C), and the layer it is to go through next.

        -1 stands before the first: positions are not added yet.
        """
        found = self._checkpoint()
        grid = torch.empty(self.shape)
        if found is not None:
            path, layer = found
            with open(path, "rb") as file:
                rows = grid.numpy()
                complete = all(
                    file.readinto(rows[y : y + ROWS].data.cast("B")) == rows[y : y + ROWS].nbytes
                    for y in range(0, self.shape[0], ROWS)
                )
            if complete:
                return grid, layer
        for tile in range(self._layout.rows * self._layout.columns):
            self._place(grid, tile)[:] = self._get(self.encoded, tile).permute(1, 2, 0)
        return grid, -1

    def checkpoint(self, grid: Tensor, layer: int) -> None:
        """Keep `grid`, which is to go through `layer` next, if much work is in it."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        path = self._folder / f"layer-{layer}"
        partial = path.with_suffix(".part")
        try:
            with open(partial, "wb") as file:
                for y in range(0, self.shape[0], ROWS):
                    file.write(_bytes_of(grid[y : y + ROWS]))
            (self._folder / "layer.json").write_text(
                json.dumps({"key": self._key, "shape": self.shape}), encoding="utf-8"
            )
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if is_disk_full(error):
                # A convenience only: the run itself goes on.
                return
            raise
        for old in self._folder.glob("layer-*"):
            if old != path:
                old.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def finish(self, grid: Tensor) -> None:
        """Cut the bottleneck's result into tiles and write it."""
        for tile in range(self._layout.rows * self._layout.columns):
            self._finished.put(tile, _bytes_of(self._place(grid, tile).permute(2, 0, 1)))
        for old in self._folder.glob("layer*"):
            old.unlink(missing_ok=True)

    def _place(self, grid: Tensor, tile: int) -> Tensor:
        """The (side, side, C) of `grid` that belongs to a tile."""
        row, column = divmod(tile, self._layout.columns)
        side = self._side
        return grid[row * side : (row + 1) * side, column * side : (column + 1) * side]

    def _checkpoint(self) -> tuple[Path, int] | None:
        try:
            told = json.loads((self._folder / "layer.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if told != {"key": self._key, "shape": list(self.shape)}:
            return None
        names = [p for p in self._folder.glob("layer-*") if p.suffix != ".part"]
        layers = {int(p.name.removeprefix("layer-")): p for p in names}
        return (layers[max(layers)], max(layers)) if layers else None

    # -- the end ---------------------------------------------------------------------

    def close(self) -> None:
        self.encoded.close()
        self._finished.close()


def is_related(folder: Path, layout: StagedLayout, key: str) -> bool:
    """Whether the bottleneck's whole result for this grid lies in `folder`. For plans."""
    path = folder / TOKENS
    if key_of(path) != key:
        return False
    with open(journal_of(path), "rb") as journal:
        # One line says what the file is, each other one names a tile.
        return sum(1 for _ in journal) > layout.rows * layout.columns


def _bytes_of(tensor: Tensor) -> memoryview:
    values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return values.reshape(-1).view(np.uint8).data
