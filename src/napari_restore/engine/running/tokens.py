"""Tokens of a run on disk: those of the encoder and those of the bottleneck."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore.engine.ledger.shared_slabs import OpenSlab
from napari_restore.engine.ledger.slab import SlabFile
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.ledger.values import Values, bytes_of, rows_into, rows_of
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.sweeps import TOKENS
from napari_restore.engine.planning.tiles import tile_bytes
from napari_restore.errors import ResourceError, is_disk_full
from napari_restore.models import WholeStep

CHECKPOINT_SECONDS = 20.0
"""A layer's result is kept when this much work would be lost with it."""


class TokenStore:
    """Tokens on disk, tile by tile, all float32, so that encoding and decoding read only what they work on."""

    # Encoded tokens are written as they come; layers of the bottleneck leave a checkpoint; its
    # result is complete or absent. A killed run continues from whichever is the latest. Kept beside
    # the result, so that another target of the same image is only decoded.
    def __init__(self, plan: Plan, step: WholeStep, open_slab: OpenSlab = SlabFile) -> None:
        """Open the tokens of a plan; the bottleneck's have its margin around every tile."""
        self._folder, self._step, self._grid = plan.store / STAGED, step, plan.grid
        self._folder.mkdir(parents=True, exist_ok=True)
        self._side, self._width = plan.layout.tile // step.reads.stride, step.reads.channels
        self.shape = *self._grid.map_size(step.reads.stride), self._width
        self._checkpoint = Values(self._folder, "layer", f"{plan.key} {list(self.shape)}")

        def opened(name: str, margin: int) -> SlabFile:
            record = tile_bytes(self._width, self._side, margin)
            path, count = self._folder / name, self._grid.count
            return open_slab(path, record, count, key=plan.key, what="tokens")

        self.encoded = opened("encoded", 0)
        try:
            self._finished = opened(TOKENS, step.margin)
        except BaseException:
            self.encoded.close()
            raise
        self._saved = time.monotonic()

    @classmethod
    def of(cls, plan: Plan, open_slab: OpenSlab = SlabFile) -> TokenStore | None:
        """Return the maps that the model of a plan takes as a whole; None if there are none."""
        step = plan.swept.ordered_steps.whole
        return None if step is None else cls(plan, step, open_slab)

    @property
    def is_finished(self) -> bool:
        """Whether the bottleneck has been completed."""
        return bool(self._finished.done.all())

    # -- tiles -----------------------------------------------------------------------

    def tile(self, tile: int) -> tuple[Tensor, Tensor]:
        """Return (C, side + 2 · margin, …) from the bottleneck, and (C, side, side) as encoded."""
        return self._get(self._finished, tile, self._step.margin), self._get(self.encoded, tile)

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
        """Return the grid (H, W, C) on `device`, and the layer it is to go through next, -1 before positions."""
        # `tick` is called regularly, and may raise.
        grid = torch.empty(self.shape, device=device)
        about = self._checkpoint.about()
        # One that is missing or damaged: the layers are run again.
        if about and self._checkpoint.read(str(about["layer"]), rows_into(grid, tick)):
            return grid, int(about["layer"])
        del grid
        return self.encoded_grid(device, tick), -1

    def encoded_grid(self, device: torch.device, tick: Callable[[], None]) -> Tensor:
        """Return the encoder's tokens (H, W, C) on `device`."""
        grid = torch.empty(self.shape, device=device)
        for tile in range(self._grid.count):
            tick()
            window = self._grid.map_window(tile, self._step.reads.stride)
            grid[window] = self._get(self.encoded, tile).permute(1, 2, 0).to(device)
        return grid

    def checkpoint(self, grid: Tensor, layer: int, tick: Callable[[], None]) -> None:
        """Keep `grid`, which `layer` is to process next, if much work is in it."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        try:
            # Under a name of its own: the checkpoint before is valid until this one is.
            self._checkpoint.put(str(layer), rows_of(grid, tick))
            self._checkpoint.finish(layer=layer)
        except OSError as error:
            # For convenience only: on a full disk the run itself goes on.
            if not is_disk_full(error):
                raise
        self._saved = time.monotonic()

    def finish(self, grid: Tensor, tick: Callable[[], None]) -> None:
        """Cut the bottleneck's result into tiles and write it."""
        for tile in range(self._grid.count):
            tick()
            self._finished.put(tile, bytes_of(self._around(grid, tile)))
        self._checkpoint.remove()

    def _around(self, grid: Tensor, tile: int) -> Tensor:
        """Return a tile's tokens and those around, (C, side + 2 · margin, …)."""
        cut, beyond, margin = [], [], self._step.margin
        window = self._grid.map_window(tile, self._step.reads.stride)
        for part, length in zip(window, grid.shape, strict=False):
            first, last = part.start - margin, part.stop + margin
            cut.append(slice(max(first, 0), last))
            beyond.append((max(-first, 0), max(last - length, 0)))
        tokens = grid[tuple(cut)].permute(2, 0, 1)
        return nn.functional.pad(tokens[None], (*beyond[1], *beyond[0]), mode="replicate")[0]

    # -- the end ---------------------------------------------------------------------

    def close(self) -> None:
        self.encoded.close()
        self._finished.close()
