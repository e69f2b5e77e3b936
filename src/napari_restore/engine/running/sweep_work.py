"""One sweep of a model on batches of tiles: maps in, maps, counts or pixels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.values import bytes_of
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.running.counts import CountStore
from napari_restore.engine.running.map_store import MapStore
from napari_restore.engine.running.rounding import Rounding
from napari_restore.engine.running.tile import TileOutput, TileWork
from napari_restore.engine.running.tile_reader import Mask, TileInput, TileReader
from napari_restore.engine.running.tokens import TokenStore
from napari_restore.models import (
    RESTORED,
    Map,
    Statistics,
    Steps,
    Sweep,
    SweepInput,
    SweptModel,
    reflected,
)


@dataclass(frozen=True)
class SweptInput(TileInput):
    """A tile with the maps (C, h, w) of its input box that were kept; others are made again."""

    number: int = -1
    maps: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Swept:
    """What a sweep left of a tile's core, on the device."""

    core: Region
    number: int
    maps: Mapping[str, Tensor]
    """(C, h, w) by name."""
    counts: Mapping[str, Tensor] | None
    """(1, …) by name."""


@dataclass(frozen=True)
class SweepWork:
    """Everything that the tiles of one run share. `tile` converts pixels to model input and back."""

    model: SweptModel
    tile: TileWork
    reader: TileReader
    rounding: Rounding
    """Rounding of the maps to `kept_dtype`."""
    stores: dict[str, MapStore] = field(default_factory=dict)
    """By map."""
    tokens: TokenStore | None = None
    """The maps that a step takes as a whole."""

    @property
    def kept_dtype(self) -> str:
        """Floats of maps that name none."""
        return self.tile.plan.sweeps.residual_dtype

    def knowing(self, counted: Statistics) -> SweepWork:
        """Return the work with more statistics, which it takes to the device."""
        here = {name: self.tile.plan.device.take(value) for name, value in counted.items()}
        return replace(self, tile=replace(self.tile, statistics={**self.tile.statistics, **here}))

    @cached_property
    def steps(self) -> Steps:
        return self.model.ordered_steps

    def sweep(self, number: int, batch: list[SweptInput], *, counting: bool) -> list[Swept]:
        """Return what sweep `number` leaves of each tile; its counts only if `counting`."""
        step = self.steps.sweeps[number]
        counts = step.counts if counting else None
        with self.tile.computing():
            features = [] if counts is None else list(counts.features)
            wanted = frozenset(each.name for each in (*step.writes, *features))
            _, outputs = self._outputs(step, batch, wanted)
            left = [self._cores(step.writes, outputs, tile, i) for i, tile in enumerate(batch)]
            counted: list[Mapping[str, Tensor] | None] = [None] * len(batch)
            if counts is not None:
                for i, tile in enumerate(batch):
                    # Each by itself: cores at the edge are smaller.
                    cores = self._cores(features, outputs, tile, i)
                    ones = {name: core[None] for name, core in cores.items()}
                    counted[i] = counts.count(ones, self._valid(tile))
        return [
            Swept(tile.core, tile.number, maps, count)
            for tile, maps, count in zip(batch, left, counted, strict=True)
        ]

    def restore(self, batch: list[SweptInput]) -> list[TileOutput]:
        """Return the restored cores, from the last sweep."""
        step = self.steps.sweeps[len(self.steps) - 1]
        names = []
        if self.tile.plan.maps or self.tile.others:
            names = [each.name for each in step.writes if each.name != RESTORED]
        with self.tile.computing():
            x, outputs = self._outputs(step, batch, frozenset([RESTORED, *names]))
            change = outputs[RESTORED].float() - self.tile.own(x)
            maps = {name: outputs[name].float() for name in names}
        return self.tile.outputs(batch, change, maps, self.tile.seen(x))

    def read(self, number: int, core: Region) -> SweptInput:
        """Return a tile with the pixels and the kept maps that sweep `number` reads of it."""
        step, grid = self.steps.sweeps[number], self.tile.plan.grid
        tile = grid.number(core)
        # A model that fixes its tiles is given whole ones.
        box = grid.around(grid.cells(tile), step.halo)
        if step.sees_image:
            read = self._pixels(core, box)
        else:
            read = empty_tile(core, box, self._counted(box) if step.counts is not None else None)
        maps: dict[str, Tensor] = {}
        whole = self.steps.whole_maps.intersection(step.reads)
        if whole:
            assert self.tokens is not None and self.steps.whole is not None
            between = self.steps.whole
            maps[between.writes.name], maps[between.reads.name] = self.tokens.tile(tile)
        maps |= self.stored([name for name in step.reads if name not in whole], box)
        return SweptInput(**vars(read), number=tile, maps=maps)

    def keep(self, swept: Swept, counts: CountStore | None) -> None:
        """Keep what a sweep left of a tile; notes the rounding of its maps."""
        # Counts and tokens mark the tile as done: maps first.
        kept = {name: each for name, each in swept.maps.items() if name in self.stores}
        self._note(kept)
        for store in dict.fromkeys(self.stores[name] for name in kept):
            store.put(swept.number, kept)
        for name in self.steps.whole_maps.intersection(swept.maps):
            assert self.tokens is not None
            self.tokens.encoded.put(swept.number, bytes_of(swept.maps[name].float()))
        if counts is not None and swept.counts is not None and not counts.has(swept.number):
            counts.put(swept.number, swept.counts)

    def _note(self, maps: Mapping[str, Tensor]) -> None:
        """Measure the rounding of maps that are about to be kept, or were made again."""
        self.rounding.note(
            each for name, each in maps.items() if self.steps.maps[name].dtype is None
        )

    # -- reading ---------------------------------------------------------------------

    def _pixels(self, core: Region, box: Region) -> TileInput:
        """Return the pixels of `box`, reflected where it reaches beyond the image."""
        needed, (rows, columns) = reflection(box, self._size)
        tile = self.reader.read(core, needed)
        if needed == box:
            return tile
        pick = (rows[:, None], columns[None, :])
        return replace(
            tile,
            input_box=box,
            pixels=tile.pixels[pick],
            valid=None if tile.valid is None else tile.valid[pick],
            excluded=None if tile.excluded is None else tile.excluded[pick],
            representative=None if tile.representative is None else tile.representative[pick],
            companions=tuple(each.take(pick) for each in tile.companions),
        )

    def _counted(self, box: Region) -> Mask | None:
        """Return the pixels (h, w) of `box` that counts rely on, as `_pixels` gives them."""
        needed, (rows, columns) = reflection(box, self._size)
        mask = self.reader.representative(needed)
        mask = self.reader.valid(needed) if mask is None else mask
        return None if mask is None else mask[rows[:, None], columns[None, :]]

    @property
    def _size(self) -> tuple[int, int]:
        return self.reader.image.height, self.reader.image.width

    # -- one call --------------------------------------------------------------------

    def _outputs(
        self, step: Sweep, batch: Sequence[SweptInput], wanted: frozenset[str]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the pixels (N, C, h, w) of a batch, empty if unseen, and the sweep's outputs."""
        device = self.tile.plan.device
        if step.sees_image:
            x = device.take(self.tile.stacked(batch))
        else:
            x = torch.empty(0, device=device.torch)
        return x, step.run(self._given(step, batch, x, wanted))

    def run_on(self, number: int, tile: SweptInput) -> Mapping[str, Tensor]:
        """Return the outputs of sweep `number` for the input box of one tile."""
        step = self.steps.sweeps[number]
        return self._outputs(step, [tile], frozenset(each.name for each in step.writes))[1]

    def given(self, number: int, tile: SweptInput) -> SweepInput:
        """Return what sweep `number` sees of one tile; within `tile.computing`."""
        step = self.steps.sweeps[number]
        x = self.tile.plan.device.take(self.tile.stacked([tile]))
        return self._given(step, [tile], x, None)

    def _given(
        self,
        step: Sweep,
        batch: Sequence[SweptInput],
        x: Tensor,
        wanted: frozenset[str] | None,
    ) -> SweepInput:
        """Return what a sweep sees of a batch of tiles with the pixels `x`."""
        statistics = self.tile.statistics_at([tile.input_box for tile in batch], x)
        view = self.model.view(x, statistics) if step.sees_image else None
        maps = self._maps(step, batch, view)
        valid = self._known(batch) if step.sees_image else None
        return SweepInput(view, maps, statistics, wanted, valid)

    def _known(self, batch: Sequence[SweptInput]) -> Tensor | None:
        """Return the pixels of a batch (N, 1, h, w) that count, for a model that asks for them."""
        valid = self.tile.known(batch)
        return None if valid is None else self.tile.plan.device.take(valid)

    def _cores(
        self, maps: Sequence[Map], outputs: Mapping[str, Tensor], tile: SweptInput, item: int
    ) -> dict[str, Tensor]:
        """Return (C, h, w) of the tile's own cells."""
        inside = self.tile.plan.grid.cells(tile.number).within(tile.input_box)
        return {
            each.name: outputs[each.name][item][(slice(None), *cell_slices(inside, each))]
            for each in maps
        }

    def _valid(self, tile: SweptInput) -> Tensor | None:
        """Return the valid pixels (1, 1, h, w) of the tile's own cells; None where all are."""
        mask = tile.valid if tile.representative is None else tile.representative
        if mask is None:
            return None
        rows, columns = self.tile.plan.grid.cells(tile.number).within(tile.input_box)
        own = np.ascontiguousarray(mask[rows, columns])
        return self.tile.plan.device.take(torch.from_numpy(own)[None, None])

    # -- maps ------------------------------------------------------------------------

    def _maps(
        self, step: Sweep, batch: Sequence[SweptInput], view: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the maps (N, C, h, w) that `step` reads, as they were kept, or made again."""
        found = [dict(tile.maps) for tile in batch]
        for number, writer in self.steps.sweeps.items():
            names = [each.name for each in writer.writes if each.name in step.reads]
            lacking: dict[tuple[str, ...], list[int]] = {}
            for i, maps in enumerate(found):
                missing = tuple(name for name in names if name not in maps)
                if missing:
                    lacking.setdefault(missing, []).append(i)
            for missing, items in lacking.items():
                for i, made in zip(
                    items, self._again(number, missing, batch, items, view), strict=True
                ):
                    found[i] |= made
        stacked = {}
        for name in step.reads:
            each = [maps[name] for maps in found]
            stacked[name] = self._as_computed(self.steps.maps[name], each)
        return stacked

    def _again(
        self,
        number: int,
        names: tuple[str, ...],
        batch: Sequence[SweptInput],
        items: list[int],
        view: Tensor | None,
    ) -> list[dict[str, Tensor]]:
        """Return maps (C, h, w) of some tiles of a batch, from the sweep that writes them."""
        writer = self.steps.sweeps[number]
        if view is None or not writer.is_shallow:
            return [self._made(number, names, batch[i].input_box) for i in items]
        boxes = [batch[i].input_box for i in items]
        statistics = self.tile.statistics_at(boxes, view)
        valid = self._known([batch[i] for i in items])
        made = writer.run(SweepInput(view[items], {}, statistics, frozenset(names), valid))
        self._note({name: made[name] for name in names})
        return [{name: made[name][n] for name in names} for n in range(len(items))]

    def _made(self, number: int, names: Sequence[str], box: Region) -> dict[str, Tensor]:
        """Return maps (C, h, w) in `box`, computed from maps that are kept, or again from theirs."""
        step = self.steps.sweeps[number]
        grown = self.tile.plan.grid.around(self.tile.plan.grid.blocks(box, step.block), step.halo)
        maps: dict[str, Tensor] = {}
        for before, writer in self.steps.sweeps.items():
            if before >= number:
                break
            read = [each.name for each in writer.writes if each.name in step.reads]
            maps |= self.stored(read, grown)
            missing = [name for name in read if name not in maps]
            if missing:
                maps |= self._made(before, missing, grown)
        pixels = self._pixels(grown, grown) if step.sees_image else empty_tile(grown, grown)
        tile = SweptInput(**vars(pixels), maps=maps)
        _, outputs = self._outputs(step, [tile], frozenset(names))
        inside = box.within(grown)
        made = {
            name: outputs[name][0][(slice(None), *cell_slices(inside, self.steps.maps[name]))]
            for name in names
        }
        self._note(made)
        return made

    def stored(self, names: Sequence[str], box: Region) -> dict[str, Tensor]:
        """Return those of the maps (C, h, w) in `box` that are kept there."""
        found: dict[str, Tensor] = {}
        for store in dict.fromkeys(self.stores[name] for name in names if name in self.stores):
            found |= store.get([name for name in names if name in store.names], box) or {}
        return found

    def _as_computed(self, one: Map, tiles: Sequence[Tensor]) -> Tensor:
        """Return tiles of a map (N, C, h, w) on the device, in the floats that are computed in."""
        device = self.tile.plan.device.torch
        if one.dtype is not None:
            return torch.stack([tile.to(device, dtype_of(one.dtype)) for tile in tiles])
        # Rounded alike whether they were kept or not: the result must not depend on the tier.
        stored = dtype_of(self.kept_dtype)
        return torch.stack([tile.to(device).to(stored) for tile in tiles]).to(
            dtype_of(self.tile.plan.computing.precision)
        )


def empty_tile(core: Region, box: Region, valid: Mask | None = None) -> TileInput:
    """Return a tile whose pixels are not needed."""
    return TileInput(core, box, np.empty((0, 0, 0)), valid)


def cell_slices(inside: tuple[slice, slice], one: Map) -> tuple[slice, ...]:
    """Return pixels as cells of a map; at the edges of an unpadded image a cell may be cut."""
    return tuple(slice(each.start // one.stride, -(-each.stop // one.stride)) for each in inside)


def reflection(
    box: Region, size: tuple[int, int]
) -> tuple[Region, tuple[npt.NDArray[np.intp], ...]]:
    """Return the box of an image of `size` to read for `box`, and its rows and columns to take."""
    # Beyond bottom and right the image is reflected, as `pad_to_multiple` does it to the whole, so
    # that a tile at the edge is padded from its neighbours where it is thin.
    rows, columns = (
        reflected(limit, high, torch.device("cpu"))[low:high].numpy()
        for low, high, limit in ((box.y0, box.y1, size[0]), (box.x0, box.x1, size[1]))
    )
    read = Region(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return read, (rows - read.y0, columns - read.x0)
