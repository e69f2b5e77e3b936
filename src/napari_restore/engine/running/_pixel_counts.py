"""Counts of a run's pixels by quality: noted with each finished tile, added up at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import CELL, Region
from napari_restore.engine.ledger.store import ResultStore
from napari_restore.engine.results.quality import (
    QUALITY,
    Limits,
    change_bits,
    count_quality,
    count_values,
    disjoint,
    parts_inside,
    value_bits,
)
from napari_restore.engine.running.tile_reader import TileReader

Mask = npt.NDArray[np.bool_]
Entry = Mapping[str, Any]
"""An entry of the store's journal."""
OF_MODEL = ("low_transmission", "not_finite")
"""Counts that only the model can make; the others follow from source and result."""


def count_tile(
    core: Region,
    targets: Iterable[Region],
    quality: npt.NDArray[np.uint8],
    values: npt.NDArray[np.uint8],
    valid: Mask | None,
    failed: Mask | None,
) -> dict[str, Any]:
    """Return what the journal notes of a tile; arrays are (h, w) of `core`, see `count_quality`.

    `values` (C, h, w) are `value_bits`.

    These are the ``counts`` of all of it, those ``inside`` the targets where that is only a part,
    and the counts `OF_MODEL` inside the targets by cell, as [row, column, count].
    """
    entry: dict[str, Any] = {"counts": count_quality(quality, valid, failed) | count_values(values)}
    parts = parts_inside(core, targets)
    if parts is not None:
        chosen = np.zeros(core.shape, bool)
        for part in parts:
            chosen[part.within(core)] = True
        counts = count_quality(
            quality[chosen],
            None if valid is None else valid[chosen],
            None if failed is None else failed[chosen],
        )
        counts |= count_values(values[:, chosen])
        entry["inside"] = {"parts": _lists(parts), "counts": counts}
        # What follows is of the same pixels.
        quality = np.where(chosen, quality, 0)
        failed = None if failed is None else failed & chosen
    cells = entry["cells"] = {}
    if entry["counts"]["low_transmission"]:
        cells["low_transmission"] = _by_cell(core, (quality & QUALITY["low_transmission"]) > 0)
    if failed is not None:
        cells["not_finite"] = _by_cell(core, failed if valid is None else failed & valid)
    return entry


def _by_cell(core: Region, found: Mask) -> list[list[int]]:
    """Return [row, column, count] of every cell of `core` with any pixel that is `found`."""
    top, left = core.y0 // CELL, core.x0 // CELL
    rows = np.add.reduceat(found, range(0, core.height, CELL), axis=0, dtype=np.int64)
    counts = np.add.reduceat(rows, range(0, core.width, CELL), axis=1)
    return [[top + y, left + x, int(counts[y, x])] for y, x in np.argwhere(counts).tolist()]


class FinishedPixels:
    """The finished pixels of a store that lie in `targets`, for their counts."""

    def __init__(
        self,
        store: ResultStore,
        reader: TileReader,
        targets: tuple[Region, ...],
        limits: Limits,
    ) -> None:
        self._store, self._reader, self._targets = store, reader, targets
        self._limits = limits

    def counts(self) -> dict[str, int]:
        """Return the number of pixels of each kind. Where tiles overlap, the newest counts."""
        total: Counter[str] = Counter()
        height, width, _ = self._store.shape
        counted = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
        for entry in reversed(self._store.journal):
            core = Region(*entry["region"])
            y0, x0, y1, x1 = (edge // CELL for edge in core.align(CELL))
            cells = counted[y0:y1, x0:x1]
            if not cells.any():
                total.update(self._of_tile(core, entry))
            elif not cells.all():
                # A tile of an earlier run with another tile grid.
                for y, x in np.argwhere(~cells).tolist():
                    total.update(self._of_cell(y0 + y, x0 + x, core, entry))
            cells[:] = True
        return total

    def _of_tile(self, core: Region, entry: Entry) -> dict[str, int]:
        """Return the counts of the part of a tile that lies in the targets."""
        parts = parts_inside(core, self._targets)
        if parts is None:
            return dict(entry["counts"])
        if self._has_these_targets(parts, entry):
            return dict(entry["inside"]["counts"])
        # A tile of an earlier run with other targets.
        return self._recount(parts, entry)

    def _of_cell(self, row: int, column: int, core: Region, entry: Entry) -> dict[str, int]:
        """Return the counts of the part of one cell of a tile that lies in the targets."""
        y, x = CELL * row, CELL * column
        cell = Region(y, x, y + CELL, x + CELL).intersect(core)
        parts = parts_inside(cell, self._targets)
        counts = self._recount([cell] if parts is None else parts, entry)
        if "cells" in entry and self._has_these_targets(parts_inside(core, self._targets), entry):
            for name in OF_MODEL:
                at = entry["cells"].get(name, ())
                counts[name] = sum(count for y, x, count in at if (y, x) == (row, column))
        return counts

    @staticmethod
    def _has_these_targets(parts: list[Region] | None, entry: Entry) -> bool:
        """Return whether the tile was restored for the same `parts` of it; None: all of it."""
        inside = entry.get("inside")
        if parts is None or inside is None:
            return parts is None and inside is None
        return bool(_lists(parts) == inside["parts"])

    def _recount(self, parts: Iterable[Region], entry: Entry) -> dict[str, int]:
        """Return the counts of parts of a finished tile, from source and result."""
        counts: Counter[str] = Counter()
        for part in disjoint(parts):
            source = self._reader.read(part, part)
            values = value_bits(source.pixels, self._store.read(part), self._limits)
            quality = change_bits(values)
            if source.valid is not None:
                quality[~source.valid] = QUALITY["unchanged"] | QUALITY["nodata"]
                if source.excluded is not None:
                    quality[source.excluded] = QUALITY["unchanged"] | QUALITY["excluded"]
            counts.update(count_quality(quality, source.valid) | count_values(values))
            # Only the model knew: as many as in the whole tile.
            share = part.pixels / max(1, entry["counts"].get("pixels", 0))
            for name in OF_MODEL:
                counts[name] += round(entry["counts"].get(name, 0) * share)
        return counts


def _lists(parts: Iterable[Region]) -> list[list[int]]:
    """Return `parts` as JSON reads them."""
    return [list(part) for part in parts]
