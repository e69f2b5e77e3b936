"""Encoding and decoding of batches of tiles with a staged model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.running._precision import dtype_of
from napari_restore.engine.running._tile import (
    FAILURES,
    TileOutput,
    TileWork,
    as_failure,
    as_pixels,
)
from napari_restore.engine.running._tile_reader import TileInput
from napari_restore.engine.staged._layout import Recompute
from napari_restore.engine.staged._rounding import Rounding
from napari_restore.models import StagedModel, reflected

Residuals = tuple[Tensor, ...]
"""(C, h, w) of one tile, fine to coarse."""


@dataclass(frozen=True)
class Encoded:
    """Encoder output of a tile, on the device."""

    core: Region
    tokens: Tensor
    residuals: Residuals


@dataclass(frozen=True)
class DecodeInput(TileInput):
    """A tile with its encoder and bottleneck output; residuals are None if they are not kept."""

    tokens: Tensor | None = None
    encoded: Tensor | None = None
    residuals: Residuals | None = None


@dataclass(frozen=True)
class StagedWork:
    """Everything that the tiles of one run share.

    `tile` converts pixels to model input and back.
    """

    model: StagedModel
    tile: TileWork
    residual_dtype: str
    recompute: Recompute
    """Residuals missing from those that are kept."""
    rounding: Rounding
    """Rounding of the residuals to `residual_dtype`."""

    def encode(self, batch: list[TileInput]) -> list[Encoded]:
        """Return the tokens and residuals of each tile."""
        try:
            with self.tile.computing():
                tokens, residuals = self.model.encode(self._view(self._input(batch), batch))
        except FAILURES as error:
            raise as_failure(self.model, error) from error
        return [
            Encoded(tile.core, tokens[i].float(), tuple(stage[i] for stage in residuals))
            for i, tile in enumerate(batch)
        ]

    def decode(self, batch: list[DecodeInput]) -> list[TileOutput]:
        """Return the restored cores."""
        device = self.tile.device
        try:
            with self.tile.computing():
                x = self._input(batch)
                view = self._view(x, batch)
                residuals = self._residuals(batch, view)
                tokens = torch.stack([t.tokens for t in batch if t.tokens is not None])
                encoded = torch.stack([t.encoded for t in batch if t.encoded is not None])
                y = self.model.decode(device.take(tokens), device.take(encoded), residuals, view)
                change = y.float() - x
        except FAILURES as error:
            raise as_failure(self.model, error) from error
        outputs = []
        for i, tile in enumerate(batch):
            rows, columns = tile.inner
            outputs.append(self.tile.to_source(tile, as_pixels(change[i], rows, columns), {}))
        return outputs

    def kept(self, residuals: Residuals) -> Residuals:
        """Return those of a tile's residuals that are kept for decoding."""
        kept = residuals[1:] if self.recompute == "first" else residuals
        self.rounding.note(kept)
        return kept

    def _input(self, batch: list[TileInput] | list[DecodeInput]) -> Tensor:
        planes = [torch.from_numpy(self.tile.to_model(tile)).permute(2, 0, 1) for tile in batch]
        return self.tile.device.take(torch.stack(planes))

    def _view(self, x: Tensor, batch: list[TileInput] | list[DecodeInput]) -> Tensor:
        return self.model.view(x, self.tile.statistics_at([tile.input_box for tile in batch], x))

    def _residuals(self, batch: list[DecodeInput], x: Tensor) -> Residuals:
        """Return (N, C, h, w) by stage: as they were kept, or recomputed."""
        if not self.model.residuals:
            return ()
        stored, computed = dtype_of(self.residual_dtype), dtype_of(self.tile.precision)
        lost = [i for i, tile in enumerate(batch) if tile.residuals is None]
        available: dict[int, Residuals] = {}
        if lost:
            _, again = self.model.encode(x[lost])
            self.rounding.note(again)
            available = {i: tuple(stage[n] for stage in again) for n, i in enumerate(lost)}
        kept = [i for i in range(len(batch)) if i not in available]
        if kept and self.recompute == "first":
            first = self.model.encode_first(x[kept])
            self.rounding.note([first])
            for n, i in enumerate(kept):
                available[i] = (first[n], *(batch[i].residuals or ()))
        elif kept:
            available |= {i: batch[i].residuals or () for i in kept}
        # Rounded alike whether they were kept or not: the result must not depend on the tier.
        return tuple(
            torch.stack(
                [available[i][stage].to(x.device).to(stored) for i in range(len(batch))]
            ).to(computed)
            for stage in range(len(self.model.residuals))
        )


def box_of_tile(core: Region, tile: int) -> Region:
    """Return the whole tile that `core` lies in; it may reach beyond the image."""
    y, x = core.y0 // tile * tile, core.x0 // tile * tile
    return Region(y, x, y + tile, x + tile)


def reflection(
    box: Region, size: tuple[int, int]
) -> tuple[Region, tuple[npt.NDArray[np.intp], ...]]:
    """Return the box of an image of `size` to read for `box`, and its rows and columns to take.

    Beyond bottom and right the image is reflected, as `pad_to_multiple` does it to the whole, so
    that a tile at the edge is padded from its neighbours where it is thin.
    """
    rows, columns = (
        reflected(limit, high, torch.device("cpu"))[low:high].numpy()
        for low, high, limit in ((box.y0, box.y1, size[0]), (box.x0, box.x1, size[1]))
    )
    read = Region(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return read, (rows - read.y0, columns - read.x0)
