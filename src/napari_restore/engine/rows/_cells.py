"""Rows of attention at their position in the image, and cells at which outputs of heads are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.running.tile_reader import Mask
from napari_restore.models import AttentionRow, AttentionSite, HeadOutputs


@dataclass(frozen=True)
class PlacedRow:
    """A row whose cells are counted from a pixel of the image. Pixels are those of level 0."""

    site: AttentionSite
    row: AttentionRow
    origin: tuple[int, int]
    """Pixel (y, x) of the corner of the cell (0, 0)."""
    shape: tuple[int, int]
    """Rows and columns of the map that the row is of: beyond it there are no cells."""


Pixel = tuple[int, int]
"""(y, x) of level 0."""
Sites = Mapping[str, AttentionSite]
"""Those that are asked about, by name."""


def placed(
    site: AttentionSite, row: AttentionRow, origin: tuple[int, int], shape: tuple[int, int]
) -> PlacedRow:
    """Return a row on the processor, in float32."""
    numbers = {name: value.detach().float().cpu() for name, value in row.numbers.items()}
    weights = row.weights.detach().to("cpu", torch.float32)
    return PlacedRow(
        site, replace(row, weights=weights, cells=row.cells.cpu(), numbers=numbers), origin, shape
    )


def rows_in(box: Region, found: Mapping[str, AttentionRow], sites: Sites) -> list[PlacedRow]:
    """Return rows by the names of their sites, of maps that cover `box`."""
    rows = []
    for name, row in found.items():
        stride = sites[name].stride
        shape = -(-box.height // stride), -(-box.width // stride)
        rows.append(placed(sites[name], row, (box.y0, box.x0), shape))
    return rows


MOST_CELLS = 4096
"""Cells of a layer of a bottleneck that are compared; of more, so many are drawn."""
_SEED = 0

Outputs = tuple[AttentionSite, HeadOutputs]
"""A site, and what its heads put out at some cells, (n, C_i) each."""


def at_core(
    found: Mapping[str, HeadOutputs],
    sites: Sites,
    core: Region,
    box: Region,
    valid: Mask | None,
) -> list[Outputs]:
    """Return the outputs at the cells that have a `valid` pixel (h, w) in `core`, of maps that cover `box`."""
    taken = []
    for name, outputs in found.items():
        rows, columns = _cells(core, box, sites[name].stride, valid)
        taken.append((sites[name], on_processor(outputs.at(rows, columns))))
    return taken


def on_processor(outputs: HeadOutputs) -> HeadOutputs:
    """Return outputs on the processor, in float32."""
    values, joins = (
        tuple(each.detach().to("cpu", torch.float32) for each in part)
        for part in (outputs.values, outputs.joins)
    )
    return replace(outputs, values=values, joins=joins)


def drawn_cells(cells: Tensor) -> Tensor:
    """Return `cells` (n,), or `MOST_CELLS` of them in their order, always the same ones."""
    if len(cells) <= MOST_CELLS:
        return cells
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(_SEED))
    return cells[order[:MOST_CELLS].sort().values]


def _cells(core: Region, box: Region, stride: int, valid: Mask | None) -> tuple[Tensor, Tensor]:
    y, x = (
        torch.arange(low, high)
        for low, high in (
            (core.y0 - box.y0, core.y1 - box.y0),
            (core.x0 - box.x0, core.x1 - box.x0),
        )
    )
    rows, columns = y // stride, x // stride
    counted = torch.zeros(int(rows[-1]) + 1, int(columns[-1]) + 1, dtype=torch.bool)
    if valid is None:
        counted[rows[0] :, columns[0] :] = True
    else:
        within = torch.from_numpy(valid.copy()).nonzero()
        counted[rows[within[:, 0]], columns[within[:, 1]]] = True
    found_rows, found_columns = counted.nonzero().unbind(1)
    return found_rows, found_columns
