"""A row of attention at its place in the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from napari_restore.models import AttentionRow, AttentionSite


@dataclass(frozen=True)
class PlacedRow:
    """A row whose cells are counted from a pixel of the image. Pixels are those of level 0."""

    site: AttentionSite
    row: AttentionRow
    origin: tuple[int, int]
    """Pixel (y, x) of the corner of the cell (0, 0)."""
    shape: tuple[int, int]
    """Rows and columns of the map that the row is of: beyond it there are no cells."""


def placed(
    site: AttentionSite, row: AttentionRow, origin: tuple[int, int], shape: tuple[int, int]
) -> PlacedRow:
    """Return a row on the processor, in float32."""
    numbers = {name: value.detach().float().cpu() for name, value in row.numbers.items()}
    weights = row.weights.detach().to("cpu", torch.float32)
    return PlacedRow(
        site, replace(row, weights=weights, cells=row.cells.cpu(), numbers=numbers), origin, shape
    )
