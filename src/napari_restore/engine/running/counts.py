"""Counts of a sweep by tile, on disk until all are there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_restore.engine.ledger.shared_slabs import OpenSlab
from napari_restore.engine.ledger.slab import SlabFile
from napari_restore.engine.planning.tiles import COUNT_BYTES, Grid, bytes_of, values_of
from napari_restore.errors import ResourceError
from napari_restore.models import Counts, Sums


class CountStore:
    """The counts of each tile, kept until all tiles are counted."""

    # Kept one by one, so that a killed run counts no tile twice; merged in the order of the tiles,
    # so that the sums do not depend on the order of the work.
    def __init__(
        self,
        path: Path,
        counts: Counts,
        grid: Grid,
        key: str,
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        """Open the counts of all tiles of `grid`."""
        self._counts = counts
        self._shapes = counts.shapes_of(grid.tile, grid.box.shape)
        self._values = values_of(self._shapes)
        path.parent.mkdir(parents=True, exist_ok=True)
        each = bytes_of(self._shapes)
        self._slab = open_slab(path, each, grid.count, key=key, what="counts")

    def has(self, tile: int) -> bool:
        return self._slab.has(tile)

    def put(self, tile: int, counts: Sums) -> None:
        """Write the counts (1, *shape) of a tile; the first axis of a shape may be shorter."""
        flat = []
        for name, shape in self._shapes.items():
            own = counts[name].detach().to("cpu", torch.float64).reshape(-1)
            flat += [own, own.new_zeros(math.prod(shape) - len(own))]
        flat.append(flat[0].new_zeros(self._slab.record_bytes // COUNT_BYTES - self._values))
        self._slab.put(tile, torch.cat(flat).numpy().view(np.uint8))

    def merged(self) -> dict[str, Tensor]:
        """Return the counts (1, *shape) of all tiles, on the processor."""
        total: Sums | None = None
        for tile in range(self._slab.count):
            one = self._get(tile)
            total = one if total is None else self._counts.merged(total, one)
        return dict(total or {})

    def _get(self, tile: int) -> dict[str, Tensor]:
        content = self._slab.get(tile)
        if content is None:
            self._slab.remove()
            raise ResourceError(
                f"The counts in {self._slab.path.parent} are damaged and were removed.",
                "Run the same command again.",
            )
        values = torch.from_numpy(content.view(np.float64))[: self._values]
        parts = torch.split(values, [math.prod(shape) for shape in self._shapes.values()])
        return {
            name: part.reshape(1, *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def close(self) -> None:
        self._slab.close()

    def remove(self) -> None:
        """Close, and delete the counts."""
        self._slab.remove()
