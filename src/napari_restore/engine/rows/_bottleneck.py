"""Rows of models that take a map of the whole image through the layers of a bottleneck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.kept_layers import KeptLayers
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.rows._cells import (
    Outputs,
    Pixel,
    PlacedRow,
    Sites,
    at_core,
    drawn_cells,
    on_processor,
    placed,
    rows_in,
)
from napari_restore.engine.running.events import Note
from napari_restore.engine.running.rounding import Rounding
from napari_restore.engine.running.run import Run
from napari_restore.engine.running.sweep_work import SweepWork, SweptInput
from napari_restore.engine.running.tokens import TokenStore
from napari_restore.images import chunk_cache
from napari_restore.models import AttentionSite, Sweep, SweepInput, WholeStep


class BottleneckRows:
    """Keeps the input of every layer once; a row then needs its own tile and a few tokens."""

    # Runs what is missing up to the last layer. What an earlier run of the image has done is used:
    # of a finished one only the layers are run again.
    def __init__(self, run: Run) -> None:
        self._run, self.plan, self.stop = run, run.plan, run.state.stop
        self._opened = ExitStack()
        self._remembered: tuple[int, dict[int, SweepInput]] = (-1, {})
        with chunk_cache.bounded(self.plan.layout.read_cache_bytes):
            self.tiles = run.begin()
            try:
                kept = self._kept()
                if kept.is_complete and not kept.verify():
                    run.emit(Note("The kept layers were damaged and are made again."))
                kept.check_disk(self._decided_bytes())
                run.program.kept_layers = kept
                run.program.run_steps(self.tiles, [], [])
            finally:
                run.state.store.close()

    @property
    def kept_bytes(self) -> int:
        """Bytes on disk of the inputs of all layers, and of what they decide."""
        kept = self._kept()
        return kept.count * kept.layer_bytes + sum(self._decided_bytes())

    def _decided_bytes(self) -> list[int]:
        tokens = self.plan.sweeps.tokens
        layers = range(self._whole.layers)
        return [self.plan.swept.kept_bytes_of_layer(index, tokens) for index in layers]

    def rows(
        self, pixels: Sequence[Pixel], sites: Sites, tile_of: Pixel
    ) -> Iterator[list[PlacedRow]]:
        """Yield the rows of each of `pixels` in these sites, in the tile of the pixel `tile_of`."""
        whole, (y, x) = self._whole, tile_of
        tile = self.plan.grid.number(Region(y, x, y + 1, x + 1))
        for pixel in pixels:
            found: list[PlacedRow] = []
            for index in range(whole.layers):
                own = {n: s for n, s in sites.items() if (s.step, s.layer) == (whole.name, index)}
                if own:
                    found += self._layer_rows(index, pixel, own)
            for number, step, named in self._asked(sites):
                found += self._tile_rows(number, step, pixel, tile, named)
            yield found

    def column(self, pixel: Pixel, site: AttentionSite) -> PlacedRow:
        """Return the weights that cells give to that of a pixel, in a layer of the bottleneck."""
        assert site.layer is not None
        kept = self._kept().layer(site.layer)
        cell = self._cell(pixel, site)
        with torch.inference_mode():
            row = self.plan.swept.layer_column(site.layer, kept, cell)
        return placed(site, row, (self.plan.grid.box.y0, self.plan.grid.box.x0), kept.shape[:2])

    def outputs(self, pixels: Sequence[Pixel], sites: Sites) -> Iterator[list[Outputs]]:
        """Yield what the heads of these sites put out in the tiles of level-0 pixels (y, x)."""
        # In the layers of the bottleneck at cells anywhere in the image, see `drawn_cells`.
        for name, site in sites.items():
            if site.layer is not None:
                yield self._layer_outputs(site.layer, name, site)
        tiles = {self.plan.grid.number(Region(y, x, y + 1, x + 1)) for y, x in pixels}
        for tile in sorted(tiles):
            core = self.plan.grid.core(tile)
            valid = self._run.state.reader.valid(core)
            for number, step, named in self._asked(sites):
                box = self.plan.grid.around(self.plan.grid.cells(tile), step.halo)
                with self.tiles.computing():
                    given = self._given(number, tile)
                    found = self.plan.swept.attention_outputs(step.name, given, frozenset(named))
                yield at_core(found, named, core, box, valid)

    # -- parts -------------------------------------------------------------------

    def _asked(self, sites: Sites) -> Iterator[tuple[int, Sweep, Sites]]:
        """Yield the sweeps that have some of these sites, with their numbers, and those sites."""
        for number, step in self._run.program.steps.sweeps.items():
            if named := {n: s for n, s in sites.items() if s.step == step.name}:
                yield number, step, named

    def _layer_outputs(self, index: int, name: str, site: AttentionSite) -> list[Outputs]:
        kept = self._kept().layer(index)
        width = kept.shape[1]
        own = (-(-side // site.stride) for side in self.plan.grid.box.shape)
        rows, columns = (torch.arange(count) for count in own)
        # Cells beyond the image are padding.
        cells = drawn_cells((rows[:, None] * width + columns).flatten())
        with torch.inference_mode():
            found = self.plan.swept.layer_outputs(index, kept, cells, frozenset([name]))
        return [(site, on_processor(outputs)) for outputs in found.values()]

    def _layer_rows(self, index: int, pixel: Pixel, sites: Sites) -> Iterator[PlacedRow]:
        kept = self._kept().layer(index)
        cell = self._cell(pixel, next(iter(sites.values())))
        with torch.inference_mode():
            rows = self.plan.swept.layer_rows(index, kept, cell, frozenset(sites))
        for name, row in rows.items():
            yield placed(
                sites[name], row, (self.plan.grid.box.y0, self.plan.grid.box.x0), kept.shape[:2]
            )

    def _tile_rows(
        self, number: int, step: Sweep, pixel: Pixel, tile: int, sites: Sites
    ) -> list[PlacedRow]:
        """Return the rows of a pixel in the `tile`-th tile."""
        box = self.plan.grid.around(self.plan.grid.cells(tile), step.halo)
        within = pixel[0] - box.y0, pixel[1] - box.x0
        with self.tiles.computing():
            given = self._given(number, tile)
            rows = self.plan.swept.attention_rows(step.name, given, within, frozenset(sites))
        return rows_in(box, rows, sites)

    def _given(self, number: int, tile: int) -> SweepInput:
        """Return what a sweep sees of a tile; that of the last tile asked for is remembered."""
        if self._remembered[0] != tile:
            self._remembered = tile, {}
        inputs = self._remembered[1]
        if number not in inputs:
            inputs[number] = self.sweeping.given(number, self.input_of(number, tile))
        return inputs[number]

    def input_of(self, number: int, tile: int) -> SweptInput:
        """Return the pixels and the kept maps that sweep `number` reads of a tile."""
        return self.sweeping.read(number, self.plan.grid.core(tile))

    def kept_input(self, layer: int) -> Tensor:
        """Return a copy of the input (H, W, C) of a layer of the bottleneck, on the device."""
        kept = self._kept().layer(layer)
        values = torch.from_numpy(np.array(kept.memory)).view(kept.shape)
        return self.plan.device.take(values)

    @cached_property
    def sweeping(self) -> SweepWork:
        """The work of sweeps, with the tokens of all tiles, whose journal has a line for each."""
        tokens = TokenStore.of(self.plan)
        assert tokens is not None
        self._opened.callback(tokens.close)
        # Not that of the run, whose record says how its own maps were rounded.
        rounding = Rounding(dtype_of(self.plan.sweeps.residual_dtype))
        return SweepWork(self.plan.swept, self.tiles, self._run.state.reader, rounding, {}, tokens)

    def close(self) -> None:
        """Close the files; rows open them again."""
        self._opened.close()
        self.__dict__.pop("sweeping", None)

    def _kept(self) -> KeptLayers:
        step = self._whole
        shape = *self.plan.grid.map_size(step.reads.stride), step.reads.channels
        return KeptLayers(self.plan.store / STAGED, self.plan.key, shape, step.layers)

    def _cell(self, pixel: Pixel, site: AttentionSite) -> tuple[int, int]:
        box = self.plan.grid.box
        return (pixel[0] - box.y0) // site.stride, (pixel[1] - box.x0) // site.stride

    @cached_property
    def _whole(self) -> WholeStep:
        whole = self._run.program.steps.whole
        assert whole is not None
        return whole
